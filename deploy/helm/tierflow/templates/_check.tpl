{{/* What no schema can say: values that don't go together. Each line names them, and what is accepted. */}}
{{- define "tierflow.check" -}}
{{- $name := include "tierflow.name" . }}
{{- if gt (len $name) 42 -}}
{{ fail (printf "%s begins the names of all objects and has %d characters, 42 are accepted: nameOverride or another release name shortens it" $name (len $name)) }}
{{- end -}}
{{- include "tierflow.checkKafka" . -}}
{{- include "tierflow.checkConsole" . -}}
{{- with .Values.store }}
{{- if and (eq .kind "elasticsearch") (not .elasticsearch.url) -}}
{{ fail "store.elasticsearch.url: give https://host:port, or set store.kind=duckdb" }}
{{- end -}}
{{- if and .elasticsearch.caSecret (hasPrefix "http://" .elasticsearch.url) -}}
{{ fail "store.elasticsearch.caSecret is for an address that begins with https://; store.elasticsearch.url is http://" }}
{{- end -}}
{{- end }}
{{- range list "{kind}" "{day}" }}{{ if not (contains . $.Values.store.elasticsearch.index) -}}
{{ fail (printf "store.elasticsearch.index: %s lacks %s" $.Values.store.elasticsearch.index .) }}
{{- end }}{{ end -}}
{{- $octet := "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])" }}
{{- $v4 := printf "%s([.]%s){3}/(3[0-2]|[12]?[0-9])" $octet $octet }}
{{- $v6 := "[0-9a-fA-F:.]*:[0-9a-fA-F:.]*/(12[0-8]|1[01][0-9]|[1-9]?[0-9])" }}
{{- range .Values.inventory.privateRanges }}{{ if not (regexMatch (printf "^(upstream|wider|%s|%s)$" $v4 $v6) .) -}}
{{ fail (printf "inventory.privateRanges: %q is none of upstream, wider, and prefixes such as 203.0.113.0/24" .) }}
{{- end }}{{ end -}}
{{- $three := list "BPF" "NET_ADMIN" "PERFMON" }}
{{- range $three }}{{ if not (has . $.Values.collector.capabilities) -}}
{{ fail (printf "collector.capabilities: %s is missing; the collector needs %s" . (join ", " $three)) }}
{{- end }}{{ end -}}
{{- with .Values.stream.autoscaling }}{{ if and .enabled (gt (int .minReplicas) (int .maxReplicas)) -}}
{{ fail (printf "stream.autoscaling.minReplicas: %d is more than maxReplicas, %d" (int .minReplicas) (int .maxReplicas)) }}
{{- end }}{{ end -}}
{{- $requests := .Values.stream.resources.requests | default dict }}
{{- if and .Values.stream.autoscaling.enabled (not $requests.cpu) -}}
{{ fail "stream.resources.requests.cpu: give it, since stream.autoscaling aims at a share of it" }}
{{- end -}}
{{- range $name, $_ := include "tierflow.labels" (dict "root" $ "component" "") | fromYaml }}
{{- if hasKey $.Values.podLabels $name -}}
{{ fail (printf "podLabels: %s is the chart's own label; choose another name" $name) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "tierflow.checkKafka" -}}
{{- if and .Values.broker.embedded .Values.kafka.bootstrapServers -}}
{{ fail "kafka.bootstrapServers and broker.embedded exclude each other: give one" }}
{{- end -}}
{{- range splitList "," .Values.kafka.bootstrapServers }}
{{- $port := last (splitList ":" .) }}
{{- if and . (or (gt (int $port) 65535) (lt (int $port) 1)) -}}
{{ fail (printf "kafka.bootstrapServers: port %s of %s isn't one of 1 to 65535" $port .) }}
{{- end }}
{{- end }}
{{- with .Values.kafka }}
{{- if and .sasl.mechanism (not .sasl.secret) -}}
{{ fail "kafka.sasl.secret: name the Secret with username and password for kafka.sasl.mechanism" }}
{{- end -}}
{{- if and .sasl.secret (not .sasl.mechanism) -}}
{{ fail "kafka.sasl.mechanism: give PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512 for kafka.sasl.secret, which nobody would use" }}
{{- end -}}
{{- if and .tls.caSecret (not .tls.enabled) -}}
{{ fail "kafka.tls.caSecret is given, kafka.tls.enabled is not: nothing would be encrypted; set it to true, or leave the Secret out" }}
{{- end -}}
{{- end }}
{{- end }}

{{- define "tierflow.checkConsole" -}}
{{- $beside := eq .Values.store.kind "duckdb" }}
{{- $port := int .Values.metrics.port }}
{{- with .Values.console }}
{{- if and .ingress.enabled (not .enabled) -}}
{{ fail "console.ingress.enabled: there is no page to lead to; set console.enabled=true too" }}
{{- end -}}
{{- if and .ingress.enabled (not .ingress.host) -}}
{{ fail "console.ingress.host: give the host name of the Ingress" }}
{{- end -}}
{{- if and .enabled (not $beside) (gt (int .replicas) 1) (not .tokenSecret) -}}
{{ fail (printf "console.tokenSecret: name a Secret with the key token, since each of console.replicas=%d would make a token of its own; or set console.replicas=1" (int .replicas)) }}
{{- end -}}
{{- if and .enabled $beside (eq $port 8080) -}}
{{ fail "metrics.port: 8080 is the page's in the same pod; choose another" }}
{{- end -}}
{{- end }}
{{- end }}
