{{- define "tierflow.name" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-{{ $name }}{{ end -}}
{{- end }}

{{/* Call with (dict "root" $ "component" "stream"). */}}
{{- define "tierflow.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "tierflow.labels" -}}
{{ include "tierflow.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- define "tierflow.image" -}}
{{- $image := .root.Values.image -}}
{{- with $image.registry }}{{ . }}/{{ end }}{{ index $image .image }}:{{ default .root.Chart.AppVersion $image.tag }}
{{- end }}

{{- define "tierflow.kafka" -}}
{{- if .Values.broker.embedded -}}
{{ include "tierflow.name" . }}-broker.{{ .Release.Namespace }}.svc:9092
{{- else -}}
{{ required "kafka.bootstrapServers: give host:port of your Kafka, or set broker.embedded=true for trying out" .Values.kafka.bootstrapServers }}
{{- end -}}
{{- end }}
