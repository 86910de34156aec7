{{/* The command lines, in one place: tests/deploy holds each against the real command. */}}
{{- define "tierflow.args.collector" -}}
- collect
- --kafka={{ include "tierflow.kafka" . }}
- --source=ebpf
- --interfaces={{ .Values.collector.interfaces }}
- --interval-s={{ .Values.collector.intervalSeconds }}
- --keepalive-s={{ .Values.stream.windowSeconds }}
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
- --port=8080
{{- end }}

{{- define "tierflow.args.topics" -}}
- topics
- --kafka={{ include "tierflow.kafka" . }}
- --mode={{ .Values.kafka.topics.mode }}
- --replication-factor={{ .Values.kafka.topics.replicationFactor }}
{{- end }}
