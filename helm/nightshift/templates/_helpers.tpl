{{- define "nightshift.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "nightshift.serviceLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: service
{{- end -}}

{{- define "nightshift.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "nightshift.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "nightshift.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "nightshift.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "nightshift.scheme" -}}
{{- if .Values.tls.existingSecret }}https{{ else }}http{{ end -}}
{{- end -}}

{{/* The name of the service in its cluster. */}}
{{- define "nightshift.host" -}}
{{- printf "%s.%s.svc" (include "nightshift.fullname" .) .Release.Namespace -}}
{{- end -}}

{{/* How pods of the cluster reach the service. */}}
{{- define "nightshift.url" -}}
{{- printf "%s://%s:%v" (include "nightshift.scheme" .) (include "nightshift.host" .) .Values.service.port -}}
{{- end -}}

{{/* What a pod may do: nothing that a task queue does not need. */}}
{{- define "nightshift.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "nightshift.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

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
{{- if and .Values.ingress.enabled (not .Values.ingress.host) -}}
{{- fail "ingress.host is empty: an Ingress for every host name would catch those of others." -}}
{{- end -}}
{{- if and .Values.serviceMonitor.enabled (not .Values.serviceMonitor.tokenSecret.name) -}}
{{- fail "serviceMonitor.tokenSecret.name is empty: /metrics asks for a token of scope read." -}}
{{- end -}}
{{- end -}}
