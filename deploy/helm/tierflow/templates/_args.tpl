{{/* The command lines, in one place: tests/deploy holds each against the real command. */}}
{{- define "tierflow.args.collector" -}}
- collect
- --kafka={{ include "tierflow.kafka" . }}
- --source=ebpf
- --interfaces={{ .Values.collector.interfaces }}
- --interval-s={{ .Values.collector.intervalSeconds }}
- --keepalive-s={{ .Values.stream.windowSeconds }}
- --max-conversations={{ int .Values.collector.maxConversations }}
{{- if .Values.collector.handOver }}
- --hand-over
{{- end }}
- --node=$(NODE_NAME)
- --cluster={{ .Values.cluster }}
- --metrics-host=0.0.0.0
- --metrics-port={{ .Values.metrics.port }}
{{- end }}

{{- define "tierflow.args.inventory" -}}
- inventory
- --kafka={{ include "tierflow.kafka" . }}
- --kubernetes
- --lease={{ .Release.Namespace }}/{{ include "tierflow.name" . }}-inventory
- --aggregated-names={{ .Values.inventory.aggregatedNames }}
{{- range .Values.inventory.privateRanges }}
- {{ printf "--private-range=%s" . | quote }}
{{- end }}
- --metrics-host=0.0.0.0
- --metrics-port={{ .Values.metrics.port }}
{{- end }}

{{- define "tierflow.args.stream" -}}
- stream
- --kafka={{ include "tierflow.kafka" . }}
- --window-s={{ .Values.stream.windowSeconds }}
- --lateness-s={{ .Values.stream.latenessSeconds }}
- --data-dir=/var/lib/tierflow/stream
- --metrics-host=0.0.0.0
- --metrics-port={{ .Values.metrics.port }}
{{- end }}

{{- define "tierflow.args.sink" -}}
- sink
- {{ .Values.store.kind }}
- --kafka={{ include "tierflow.kafka" . }}
{{- if eq .Values.store.kind "duckdb" }}
- --database=/var/lib/tierflow/flows.duckdb
{{- end }}
- --metrics-host=0.0.0.0
- --metrics-port={{ .Values.metrics.port }}
{{- end }}

{{- define "tierflow.args.console" -}}
- console
- --kafka={{ include "tierflow.kafka" . }}
# Behind a Service; who has no token gets no answer.
- --host=0.0.0.0
- --port=8080
{{- with .Values.console.tokenSecret }}
- --token-file=/etc/tierflow/console/token
{{- end }}
{{- $service := printf "%s-console" (include "tierflow.name" .) }}
{{- range list $service (printf "%s.%s" $service .Release.Namespace) (printf "%s.%s.svc" $service .Release.Namespace) (printf "%s.%s.svc.cluster.local" $service .Release.Namespace) }}
- --allow-host={{ . }}
{{- end }}
{{- with .Values.console.ingress.host }}
- --allow-host={{ . }}
{{- end }}
{{- range .Values.console.allowedHosts }}
- --allow-host={{ . }}
{{- end }}
{{- end }}

{{- define "tierflow.args.topics" -}}
- topics
- --kafka={{ include "tierflow.kafka" . }}
- --mode={{ .Values.kafka.topics.mode }}
- --replication-factor={{ .Values.kafka.topics.replicationFactor }}
{{- end }}
