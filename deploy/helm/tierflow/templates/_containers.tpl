{{- define "tierflow.container.sink" -}}
- name: sink
  image: {{ include "tierflow.image" (dict "root" . "image" "tierflow") }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  args: {{- include "tierflow.args.sink" . | nindent 4 }}
  env:
    {{- include "tierflow.environment" . | nindent 4 }}
    {{- include "tierflow.storeEnvironment" . | nindent 4 }}
    {{- include "tierflow.settings" .Values.sink.settings | nindent 4 }}
  ports:
    - { name: metrics, containerPort: {{ .Values.metrics.port }} }
  {{- include "tierflow.probes" "metrics" | nindent 2 }}
  resources: {{- toYaml .Values.sink.resources | nindent 4 }}
  {{- include "tierflow.unprivileged" . | nindent 2 }}
  volumeMounts:
    {{- include "tierflow.mounts" . | nindent 4 }}
    {{- include "tierflow.storeMounts" . | nindent 4 }}
{{- end }}

{{- define "tierflow.consoleVolume" -}}
{{- if and .Values.console.enabled .Values.console.tokenSecret }}
- name: console-token
  secret: { secretName: {{ .Values.console.tokenSecret }} }
{{- end }}
{{- end }}

{{- define "tierflow.container.console" -}}
- name: console
  image: {{ include "tierflow.image" (dict "root" . "image" "tierflow") }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  args: {{- include "tierflow.args.console" . | nindent 4 }}
  env:
    {{- include "tierflow.environment" . | nindent 4 }}
    {{- include "tierflow.storeEnvironment" . | nindent 4 }}
    {{- include "tierflow.settings" .Values.console.settings | nindent 4 }}
  ports:
    - { name: http, containerPort: 8080 }
  {{- include "tierflow.probes" "http" | nindent 2 }}
  resources: {{- toYaml .Values.console.resources | nindent 4 }}
  {{- include "tierflow.unprivileged" . | nindent 2 }}
  volumeMounts:
    {{- include "tierflow.mounts" . | nindent 4 }}
    {{- include "tierflow.storeMounts" . | nindent 4 }}
    {{- if .Values.console.tokenSecret }}
    - { name: console-token, mountPath: /etc/tierflow/console, readOnly: true }
    {{- end }}
{{- end }}
