{{/* Refuses what could not work, in words. */}}
{{- define "nightshift.check" -}}
{{- $database := .Values.database -}}
{{- if not .Values.adminToken.existingSecret -}}
{{- fail "adminToken.existingSecret is empty: without a token the service listens on loopback only. Make a secret (kubectl create secret generic nightshift-admin --from-literal=token=...) and name it." -}}
{{- end -}}
{{- if eq $database.type "sqlite" -}}
{{- if or (ne (int .Values.replicas) 1) .Values.autoscaling.enabled -}}
{{- fail "database.type is sqlite, whose file one process owns: set replicas to 1 and autoscaling.enabled to false, or use PostgreSQL." -}}
{{- end -}}
{{- else if and (eq $database.type "postgres") (not $database.postgres.existingSecret) -}}
{{- fail "database.postgres.existingSecret is empty: make a secret with the database's URL (postgres://...) and name it." -}}
{{- else if and (eq $database.type "cloudnativepg") (not $database.cloudnativepg.cluster) -}}
{{- fail "database.cloudnativepg.cluster is empty: name the Cluster whose -app secret has the database's URL." -}}
{{- end -}}
{{- if and .Values.settings.database_pooled (ne $database.type "postgres") -}}
{{- fail "settings.database_pooled is for database.type postgres." -}}
{{- end -}}
{{- include "nightshift.checkDoors" . -}}
{{- include "nightshift.checkWorkers" . -}}
{{- include "nightshift.checkBackup" . -}}
{{- if and .Values.serviceMonitor.enabled (not .Values.serviceMonitor.tokenSecret.name) -}}
{{- fail "serviceMonitor.tokenSecret.name is empty: /metrics asks for a token of scope read." -}}
{{- end -}}
{{- end -}}

{{/* The ways into the cluster. */}}
{{- define "nightshift.checkDoors" -}}
{{- $ingress := .Values.ingress -}}
{{- if $ingress.enabled -}}
{{- if not $ingress.hosts -}}
{{- fail "ingress.hosts is empty: an Ingress for every host name would catch those of others." -}}
{{- end -}}
{{- if ne $ingress.path "/" -}}
{{- fail (printf "ingress.path is %s, but the service answers at / only: it knows no path that its own are below. Give it a host name of its own." $ingress.path) -}}
{{- end -}}
{{- if and $ingress.tls $ingress.tlsSecret -}}
{{- fail "ingress.tls and ingress.tlsSecret are both set: tlsSecret is one certificate for all hosts, tls names one for each." -}}
{{- end -}}
{{- end -}}
{{- if .Values.httpRoute.enabled -}}
{{- if not .Values.httpRoute.parentRefs -}}
{{- fail "httpRoute.parentRefs is empty: name the Gateway that the route is for." -}}
{{- end -}}
{{- if not .Values.httpRoute.hostnames -}}
{{- fail "httpRoute.hostnames is empty: a route for every host name of its Gateway would catch those of others." -}}
{{- end -}}
{{- end -}}
{{- $service := .Values.service -}}
{{- if ne $service.type "LoadBalancer" -}}
{{- range $field := list "loadBalancerClass" "loadBalancerIP" "loadBalancerSourceRanges" -}}
{{- if get $service $field -}}
{{- fail (printf "service.%s is for service.type LoadBalancer, and the type is %s." $field $service.type) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if eq $service.type "ClusterIP" -}}
{{- range $field := list "nodePort" "externalTrafficPolicy" -}}
{{- if get $service $field -}}
{{- fail (printf "service.%s is for service.type NodePort or LoadBalancer, and the type is ClusterIP." $field) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "nightshift.checkWorkers" -}}
{{- range $name, $worker := .Values.workers -}}
{{- if and (hasKey $worker "replicas") (or $worker.keda $worker.autoscaled) -}}
{{- fail (printf "workers.%s.replicas is set beside %s: each helm upgrade would undo the autoscaler's number." $name (ternary "keda" "autoscaled" (hasKey $worker "keda"))) -}}
{{- end -}}
{{- with $worker.keda -}}
{{- if gt (int .minReplicas) (int .maxReplicas) -}}
{{- fail (printf "workers.%s.keda.minReplicas is more than its maxReplicas." $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "nightshift.checkBackup" -}}
{{- if .Values.backup.enabled -}}
{{- if ne .Values.database.type "sqlite" -}}
{{- fail "backup.enabled is for database.type sqlite: PostgreSQL has backups of its own." -}}
{{- end -}}
{{- if not .Values.backup.existingClaim -}}
{{- fail "backup.existingClaim is empty: name a volume claim for the backups, on another disk than the data's." -}}
{{- end -}}
{{- if and (not .Values.database.sqlite.existingClaim) (eq .Values.database.sqlite.accessMode "ReadWriteOncePod") -}}
{{- fail "database.sqlite.accessMode is ReadWriteOncePod, so that no second pod could read the file for a backup." -}}
{{- end -}}
{{- end -}}
{{- end -}}
