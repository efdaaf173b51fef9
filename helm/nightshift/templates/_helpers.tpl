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

{{/* The labels by which a component's pods are chosen. They are all that pods have, beside those
that the values give: others change with the chart, and every change of a pod's labels rolls it. */}}
{{- define "nightshift.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "nightshift.serviceLabels" -}}
{{- include "nightshift.selector" (dict "root" . "component" "service") -}}
{{- end -}}

{{- define "nightshift.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
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

{{/* The volume of an SQLite file. */}}
{{- define "nightshift.dataClaim" -}}
{{- default (printf "%s-data" (include "nightshift.fullname" .)) .Values.database.sqlite.existingClaim -}}
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

{{/* Where pods may run, by their values. */}}
{{- define "nightshift.placement" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* Constraints of topology; one that names no pods is about those of the selector. */}}
{{- define "nightshift.spread" -}}
{{- $own := dict "labelSelector" (dict "matchLabels" (.selector | fromYaml)) -}}
{{- range .constraints }}
- {{ toYaml (ternary . (merge (dict) . $own) (hasKey . "labelSelector")) | nindent 2 | trim }}
{{- end }}
{{- end -}}
