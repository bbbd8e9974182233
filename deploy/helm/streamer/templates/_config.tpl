{{/* streamer.yaml, and what of it the chart refuses. The daemon itself checks the rest when it starts. */}}

{{- define "streamer.storeKind" -}}
{{- $store := .Values.state.store -}}
{{- if has $store (list "local" "topic") -}}
{{- $store -}}
{{- else if hasPrefix "file://" $store -}}
folder
{{- else -}}
object
{{- end -}}
{{- end -}}

{{- define "streamer.workloadKind" -}}
{{- eq (include "streamer.storeKind" .) "local" | ternary "StatefulSet" "Deployment" -}}
{{- end -}}

{{- define "streamer.sharedStatePath" -}}
/var/lib/streamer/shared
{{- end -}}

{{/* What depends on the pod and not on the data: section -> setting -> value. */}}
{{- define "streamer.ownSettings" -}}
http:
  host: 0.0.0.0
  port: {{ .Values.metrics.port }}
model:
  directory: /var/lib/streamer/bundles
state:
  directory: /var/lib/streamer/state
{{- end -}}

{{/* Settings that name mounted files. */}}
{{- define "streamer.fileSettingPath" -}}
/etc/streamer/files/{{ .setting }}
{{- end -}}

{{- define "streamer.config" -}}
{{- $config := dict -}}
{{- if .Values.configFile -}}
  {{- $config = fromYaml .Values.configFile -}}
  {{- if and (hasKey $config "Error") (eq (len $config) 1) -}}
    {{- fail "configFile: wanted the text of a streamer.yaml, as in --set-file configFile=streamer.yaml; it is not valid YAML" -}}
  {{- end -}}
{{- end -}}
{{- $own := include "streamer.ownSettings" . | fromYaml -}}
{{- range $section, $keys := .Values.config -}}
  {{- $below := get $config $section | default dict -}}
  {{- range $key, $value := $keys -}}
    {{- if hasKey (get $own $section | default dict) $key -}}
      {{- fail (printf "config.%s.%s: the chart sets it, to %v; leave it out" $section $key (get (get $own $section) $key)) -}}
    {{- end -}}
    {{- $_ := set $below $key $value -}}
  {{- end -}}
  {{- $_ := set $config $section $below -}}
{{- end -}}
{{- range $section, $keys := $own -}}
  {{- $below := get $config $section | default dict -}}
  {{- range $key, $value := $keys -}}{{- $_ := set $below $key $value -}}{{- end -}}
  {{- $_ := set $config $section $below -}}
{{- end -}}
{{- range (.Files.Get "files/secret-settings.yaml" | fromYamlArray) -}}
  {{- $part := splitn "." 2 . -}}
  {{- if hasKey (get $config $part._0 | default dict) $part._1 -}}
    {{- fail (printf "config: %s is a secret and would be readable in a ConfigMap; put it into a Secret and name that in secretSettings: [{setting: %s, secretName: SECRET, key: KEY}]" . .) -}}
  {{- end -}}
{{- end -}}
{{- $sinks := get $config "sinks" | default dict -}}
{{- range (.Files.Get "files/sink-secrets.yaml" | fromYamlArray) -}}
  {{- $part := splitn "." 2 . -}}
  {{- range $name, $sink := get $sinks $part._0 | default dict -}}
    {{- if hasKey ($sink | default dict) $part._1 -}}
      {{- $setting := printf "sinks.%s.%s.%s" $part._0 $name $part._1 -}}
      {{- fail (printf "config: %s is a secret and would be readable in a ConfigMap; put it into a Secret and name that in secretSettings: [{setting: %s, secretName: SECRET, key: KEY}]" $setting $setting) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- $state := get $config "state" -}}
{{- range $key := list "store" "topic" -}}
  {{- if hasKey $state $key -}}
    {{- if ne (toString (get $state $key)) (toString (get $.Values.state $key)) -}}
      {{- fail (printf "config.state.%s: set state.%s of the chart's values instead: it decides whether this is a Deployment or a StatefulSet; got %v here and %q there" $key $key (get $state $key) (get $.Values.state $key)) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- $_ := set $state "store" .Values.state.store -}}
{{- if ne .Values.state.store "local" -}}{{- $_ := unset $state "directory" -}}{{- end -}}
{{- with .Values.state.topic -}}{{- $_ := set $state "topic" . -}}{{- end -}}
{{- range .Values.fileSettings -}}
  {{- $part := splitn "." 2 .setting -}}
  {{- $below := get $config $part._0 | default dict -}}
  {{- if hasKey $below $part._1 -}}
    {{- fail (printf "fileSettings: %s is in the configuration already, as %v; leave it out there" .setting (get $below $part._1)) -}}
  {{- end -}}
  {{- $_ := set $config $part._0 (set $below $part._1 (include "streamer.fileSettingPath" .)) -}}
{{- end -}}
{{- $limits := get $config "limits" | default dict -}}
{{- with include "streamer.memoryMb" . -}}
  {{- if gt (get $limits "memory_mb" | default . | int) (int .) -}}
    {{- fail (printf "config.limits.memory_mb: wanted at most the memory limit of a replica, %s; got %v" . $limits.memory_mb) -}}
  {{- end -}}
  {{- $_ := set $config "limits" (set $limits "memory_mb" (get $limits "memory_mb" | default . | int)) -}}
{{- end -}}
{{- $alerting := get $config "alerting" | default dict -}}
{{- if and .Values.grafana.url (not (hasKey $alerting "dashboard_url")) -}}
  {{- $_ := set $config "alerting" (set $alerting "dashboard_url" (printf "%s/d/streamer-stream" (trimSuffix "/" .Values.grafana.url))) -}}
{{- end -}}
{{- if not (get (get $config "kafka" | default dict) "bootstrap_servers") -}}
  {{- fail "config.kafka.bootstrap_servers: wanted where Kafka is, e.g. kafka-bootstrap.kafka:9093; got nothing" -}}
{{- end -}}
{{- if not (get (get $config "records" | default dict) "features") -}}
  {{- fail "config.records.features: wanted the fields to watch, e.g. [load, temperature]; got nothing. `streamer init` finds them: --set-file configFile=streamer.yaml" -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{/* Its section `kafka`, as YAML. */}}
{{- define "streamer.kafka" -}}
{{- get (include "streamer.config" . | fromYaml) "kafka" | default dict | toYaml -}}
{{- end -}}

{{/* Its section `http`, as YAML. */}}
{{- define "streamer.http" -}}
{{- get (include "streamer.config" . | fromYaml) "http" | default dict | toYaml -}}
{{- end -}}

{{- define "streamer.httpScheme" -}}
{{- get (include "streamer.http" . | fromYaml) "tls_certfile" | empty | ternary "HTTP" "HTTPS" -}}
{{- end -}}

{{/* The port of an http(s) address. */}}
{{- define "streamer.urlPort" -}}
{{- regexFind "[0-9]+$" (regexFind ":[0-9]+$" (urlParse .).host) | default (hasPrefix "https:" . | ternary "443" "80") -}}
{{- end -}}

{{/* The memory limit of a replica in MiB; empty if there is none, or if it is written in other units. */}}
{{- define "streamer.memoryMb" -}}
{{- $limit := get (get .Values.resources "limits" | default dict) "memory" | toString -}}
{{- if regexMatch "^[0-9]+Gi$" $limit -}}
{{- mul 1024 (trimSuffix "Gi" $limit | int) -}}
{{- else if regexMatch "^[0-9]+Mi$" $limit -}}
{{- trimSuffix "Mi" $limit -}}
{{- end -}}
{{- end -}}
