{{/* The environment of the service: what the chart decides, secrets, then settings. */}}
{{- define "nightshift.env" -}}
{{- $database := .Values.database -}}
- name: NIGHTSHIFT_BIND
  value: {{ ternary "[::]:8700" "0.0.0.0:8700" .Values.ipv6 | quote }}
- name: NIGHTSHIFT_PLUGIN_CACHE
  value: /cache/plugins
- name: NIGHTSHIFT_ADMIN_TOKEN_FILE
  value: /run/nightshift/admin-token/{{ .Values.adminToken.key }}
{{- if .Values.secretsKey.existingSecret }}
- name: NIGHTSHIFT_SECRETS_KEY_FILE
  value: /run/nightshift/secrets-key/{{ .Values.secretsKey.key }}
{{- end }}
{{- if .Values.tls.existingSecret }}
- name: NIGHTSHIFT_TLS_CERTIFICATE
  value: /run/nightshift/tls/tls.crt
- name: NIGHTSHIFT_TLS_KEY
  value: /run/nightshift/tls/tls.key
{{- end }}
{{- if eq $database.type "sqlite" }}
- name: NIGHTSHIFT_DATABASE_URL
  value: sqlite:///data/nightshift.db
{{- else if eq $database.type "cloudnativepg" }}
- name: NIGHTSHIFT_DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ $database.cloudnativepg.cluster }}-app
      key: uri
{{- else }}
- name: NIGHTSHIFT_DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ $database.postgres.existingSecret }}
      key: {{ $database.postgres.key }}
{{- if $database.postgres.listenKey }}
- name: NIGHTSHIFT_DATABASE_LISTEN_URL
  valueFrom:
    secretKeyRef:
      name: {{ $database.postgres.existingSecret }}
      key: {{ $database.postgres.listenKey }}
{{- end }}
{{- end }}
{{- if not .Values.settings.public_url }}
- name: NIGHTSHIFT_PUBLIC_URL
  value: {{ include "nightshift.url" . }}
{{- end }}
{{- range $name, $value := .Values.settings }}
{{- if and (eq $name "allowed_hosts") $value }}
{{- /* Pods of the cluster, workers first of all, call the service by these. */}}
{{- $own := include "nightshift.host" $ }}
{{- $short := splitList "." $own }}
{{- $value = concat $value (list (index $short 0) (join "." (initial $short)) $own (printf "%s.cluster.local" $own)) }}
{{- /* And those outside of it, by what the Ingress and the route let through. */}}
{{- if $.Values.ingress.enabled }}
{{- $value = concat $value $.Values.ingress.hosts }}
{{- end }}
{{- if $.Values.httpRoute.enabled }}
{{- $value = concat $value $.Values.httpRoute.hostnames }}
{{- end }}
{{- $value = uniq $value }}
{{- end }}
- name: NIGHTSHIFT_{{ upper $name }}
  value: {{ include "nightshift.value" $value | quote }}
{{- end }}
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* A setting as the environment has it. Numbers are whole, and would else become 6.7e+07. */}}
{{- define "nightshift.value" -}}
{{- if kindIs "float64" . -}}
{{- printf "%.0f" . -}}
{{- else if kindIs "map" . -}}
{{- $pairs := list -}}
{{- range $name, $value := . -}}
{{- $pairs = append $pairs (printf "%s=%s" (quote $name) (quote $value)) -}}
{{- end -}}
{{- printf "{%s}" (join "," $pairs) -}}
{{- else if kindIs "slice" . -}}
{{- toJson . -}}
{{- else -}}
{{- . -}}
{{- end -}}
{{- end -}}
