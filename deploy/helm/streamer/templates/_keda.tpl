{{/* How KEDA logs in to Kafka: the same Secrets as the daemon, by reference. */}}

{{/* The user name, where the configuration has it and no Secret. */}}
{{- define "streamer.kedaUsernameFromEnv" -}}
{{- $kafka := include "streamer.kafka" . | fromYaml -}}
{{- if and (not .Values.autoscaling.triggerAuthentication) (hasPrefix "SASL" (get $kafka "security_protocol" | default "")) -}}
{{- get $kafka "sasl_username" -}}
{{- end -}}
{{- end -}}

{{- define "streamer.kedaSasl" -}}
{{- $kafka := include "streamer.kafka" . | fromYaml -}}
{{- if hasPrefix "SASL" (get $kafka "security_protocol" | default "") -}}
{{- $mechanism := get $kafka "sasl_mechanism" | default "SCRAM-SHA-512" -}}
{{- $word := get (dict "PLAIN" "plaintext" "SCRAM-SHA-256" "scram_sha256" "SCRAM-SHA-512" "scram_sha512") $mechanism -}}
{{- if not $word -}}
  {{- fail (printf "autoscaling: the chart does not know how KEDA logs in with %s; name a TriggerAuthentication in autoscaling.triggerAuthentication" $mechanism) -}}
{{- end -}}
{{- $word -}}
{{- end -}}
{{- end -}}

{{- define "streamer.kedaTls" -}}
{{- $protocol := get (include "streamer.kafka" . | fromYaml) "security_protocol" | default "" -}}
{{- if has $protocol (list "SSL" "SASL_SSL") }}enable{{ end -}}
{{- end -}}

{{/* secretTargetRef of a TriggerAuthentication, as YAML; empty if Kafka asks for nothing. */}}
{{- define "streamer.kedaSecrets" -}}
{{- $parameters := dict "kafka.sasl_username" "username" "kafka.sasl_password" "password" "kafka.ssl_cafile" "ca" "kafka.ssl_certfile" "cert" "kafka.ssl_keyfile" "key" "kafka.ssl_key_password" "keyPassword" -}}
{{- range concat .Values.secretSettings .Values.fileSettings -}}
{{- $parameter := get $parameters .setting -}}
{{- if $parameter }}
{{- if .configMapName -}}
  {{- fail (printf "autoscaling: KEDA reads %s from a Secret only, not from ConfigMap %s; copy it, or name a TriggerAuthentication in autoscaling.triggerAuthentication" .setting .configMapName) -}}
{{- end }}
- {parameter: {{ $parameter }}, name: {{ default $.Values.existingSecret .secretName | quote }}, key: {{ .key | quote }}}
{{- end }}
{{- end -}}
{{- end -}}
