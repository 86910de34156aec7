{{/* What every pod has; call with (dict "root" $ "component" "stream"). */}}
{{- define "tierflow.podMetadata" -}}
labels:
  {{- include "tierflow.labels" . | nindent 2 }}
  {{- with .root.Values.podLabels }}{{ toYaml . | nindent 2 }}{{ end }}
{{- with .root.Values.podAnnotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "tierflow.podSpec" -}}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets: {{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
serviceAccountName: {{ include "tierflow.name" .root }}-{{ .component }}
automountServiceAccountToken: {{ eq .component "inventory" }}
enableServiceLinks: false
{{- if ne .component "collector" }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: { type: RuntimeDefault }
{{- end }}
{{- end }}

{{- define "tierflow.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector: { matchLabels: { {{- include "tierflow.selector" . | replace "\n" ", " }} } }
{{- end }}

{{- define "tierflow.unprivileged" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
{{- end }}

{{/* The settings that every stage shares, and the folders it may write to. */}}
{{- define "tierflow.environment" -}}
- { name: TIERFLOW_STATE, value: /var/lib/tierflow }
- { name: HOME, value: /tmp }
{{- with .Values.kafka.topics.prefix }}
- { name: TIERFLOW_TOPIC_PREFIX, value: {{ . | quote }} }
{{- end }}
{{- if .Values.kafka.tls.enabled }}
- { name: TIERFLOW_KAFKA_TLS, value: "true" }
{{- if .Values.kafka.tls.caSecret }}
- { name: TIERFLOW_KAFKA_CA_FILE, value: /etc/tierflow/kafka-ca/ca.crt }
{{- end }}
{{- end }}
{{- with .Values.kafka.sasl }}{{ if .mechanism }}
- { name: TIERFLOW_KAFKA_SASL_MECHANISM, value: {{ .mechanism }} }
- { name: TIERFLOW_KAFKA_USERNAME_FILE, value: /etc/tierflow/kafka/username }
- { name: TIERFLOW_KAFKA_PASSWORD_FILE, value: /etc/tierflow/kafka/password }
{{- end }}{{ end }}
{{- end }}

{{/* Call with a component's settings. Helm reads every number as a float, and would write a large one as 1e+10. */}}
{{- define "tierflow.settings" -}}
{{- range $name, $value := . }}
{{- if and (kindIs "float64" $value) (eq (floor $value) $value) }}{{ $value = int64 $value }}{{ end }}
- { name: {{ $name }}, value: {{ $value | toString | quote }} }
{{- end }}
{{- end }}

{{- define "tierflow.mounts" -}}
- { name: state, mountPath: /var/lib/tierflow }
- { name: tmp, mountPath: /tmp }
{{- if and .Values.kafka.tls.enabled .Values.kafka.tls.caSecret }}
- { name: kafka-ca, mountPath: /etc/tierflow/kafka-ca, readOnly: true }
{{- end }}
{{- if .Values.kafka.sasl.mechanism }}
- { name: kafka, mountPath: /etc/tierflow/kafka, readOnly: true }
{{- end }}
{{- end }}

{{- define "tierflow.volumes" -}}
- name: tmp
  emptyDir: { sizeLimit: 256Mi }
{{- if and .Values.kafka.tls.enabled .Values.kafka.tls.caSecret }}
- name: kafka-ca
  secret: { secretName: {{ .Values.kafka.tls.caSecret }} }
{{- end }}
{{- if .Values.kafka.sasl.mechanism }}
- name: kafka
  secret: { secretName: {{ .Values.kafka.sasl.secret }} }
{{- end }}
{{- end }}

{{- define "tierflow.stateVolume" -}}
- name: state
  emptyDir: { sizeLimit: 1Gi }
{{- end }}

{{/* Call with the name of the port. The page answers to names that it knows only. */}}
{{- define "tierflow.probe" -}}
{{- if eq .port "http" -}}
httpGet: { path: /healthz, port: http, httpHeaders: [{ name: Host, value: localhost }] }
{{- else -}}
httpGet: { path: {{ .path }}, port: {{ .port }} }
{{- end }}
timeoutSeconds: 5
{{- end }}

{{- define "tierflow.probes" -}}
startupProbe:
  {{- include "tierflow.probe" (dict "port" . "path" "/healthz") | nindent 2 }}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  {{- include "tierflow.probe" (dict "port" . "path" "/healthz") | nindent 2 }}
  periodSeconds: 20
  failureThreshold: 4
readinessProbe:
  {{- include "tierflow.probe" (dict "port" . "path" "/readyz") | nindent 2 }}
  periodSeconds: 3
{{- end }}

{{- define "tierflow.storeEnvironment" -}}
{{- with .Values.store }}{{ if eq .kind "elasticsearch" }}
- { name: TIERFLOW_ELASTICSEARCH, value: {{ .elasticsearch.url | quote }} }
- { name: TIERFLOW_ELASTICSEARCH_INDEX, value: {{ .elasticsearch.index | quote }} }
{{- if .elasticsearch.caSecret }}
- { name: TIERFLOW_ELASTICSEARCH_CA_FILE, value: /etc/tierflow/elasticsearch-ca/ca.crt }
{{- end }}
{{- if .elasticsearch.secret }}
{{- if eq .elasticsearch.authentication "apiKey" }}
- { name: TIERFLOW_ELASTICSEARCH_API_KEY_FILE, value: /etc/tierflow/elasticsearch/apiKey }
{{- else }}
- name: TIERFLOW_ELASTICSEARCH_USERNAME
  valueFrom: { secretKeyRef: { name: {{ .elasticsearch.secret }}, key: username } }
- { name: TIERFLOW_ELASTICSEARCH_PASSWORD_FILE, value: /etc/tierflow/elasticsearch/password }
{{- end }}
{{- end }}
{{- end }}{{ end }}
{{- end }}

{{- define "tierflow.storeMounts" -}}
{{- with .Values.store }}{{ if eq .kind "elasticsearch" }}
{{- if .elasticsearch.caSecret }}
- { name: elasticsearch-ca, mountPath: /etc/tierflow/elasticsearch-ca, readOnly: true }
{{- end }}
{{- if .elasticsearch.secret }}
- { name: elasticsearch, mountPath: /etc/tierflow/elasticsearch, readOnly: true }
{{- end }}
{{- end }}{{ end }}
{{- end }}

{{- define "tierflow.storeVolumes" -}}
{{- with .Values.store }}{{ if eq .kind "elasticsearch" }}
{{- if .elasticsearch.caSecret }}
- name: elasticsearch-ca
  secret: { secretName: {{ .elasticsearch.caSecret }} }
{{- end }}
{{- if .elasticsearch.secret }}
- name: elasticsearch
  secret:
    secretName: {{ .elasticsearch.secret }}
    items: [{ key: {{ .elasticsearch.authentication }}, path: {{ .elasticsearch.authentication }} }]
{{- end }}
{{- end }}{{ end }}
{{- end }}
