{{/* What values.schema.json cannot say: values that make no sense together. */}}

{{- define "streamer.checks" -}}
{{- $kind := include "streamer.storeKind" . -}}
{{- $local := eq $kind "local" -}}
{{- if and $local (gt (int .Values.replicaCount) 1) (not .Values.state.allowInexactReplicas) -}}
  {{- fail (printf "replicaCount: wanted 1 with state.store: local; got %d. State on a replica's own volume stays behind when a partition moves, and alerts are lost and repeated. Set state.store: topic, or state.allowInexactReplicas: true if you accept that" (int .Values.replicaCount)) -}}
{{- end -}}
{{- if and $local .Values.autoscaling.enabled -}}
  {{- fail "autoscaling.enabled: not with state.store: local, whose state does not move with the partitions; set state.store: topic or an object store" -}}
{{- end -}}
{{- if eq $kind "folder" -}}
  {{- if not (hasPrefix (printf "file://%s/" (include "streamer.sharedStatePath" .)) .Values.state.store) -}}
    {{- fail (printf "state.store: wanted a folder of the shared volume, file://%s/NAME; got %s" (include "streamer.sharedStatePath" .) .Values.state.store) -}}
  {{- end -}}
  {{- if not .Values.state.existingClaim -}}
    {{- fail "state.existingClaim: wanted a claim with access mode ReadWriteMany, which state.store: file://... is kept in; got nothing" -}}
  {{- end -}}
{{- else if .Values.state.existingClaim -}}
  {{- fail (printf "state.existingClaim: goes with state.store: file://%s/NAME; got state.store: %s" (include "streamer.sharedStatePath" .) .Values.state.store) -}}
{{- end -}}
{{- if and .Values.state.topic (ne $kind "topic") -}}
  {{- fail (printf "state.topic: goes with state.store: topic; got state.store: %s" .Values.state.store) -}}
{{- end -}}
{{- if .Values.autoscaling.enabled -}}
  {{- $scaling := .Values.autoscaling -}}
  {{- $partitions := int $scaling.partitions -}}
  {{- $most := int (default $partitions $scaling.maxReplicas) -}}
  {{- if lt $partitions 1 -}}
    {{- fail "autoscaling.partitions: wanted how many partitions the input topic has; got 0. More replicas than that have nothing to read" -}}
  {{- end -}}
  {{- if gt $most $partitions -}}
    {{- fail (printf "autoscaling.maxReplicas: wanted at most the partitions of the input topic, %d; got %d" $partitions $most) -}}
  {{- end -}}
  {{- if gt (int $scaling.minReplicas) $most -}}
    {{- fail (printf "autoscaling.minReplicas: wanted at most autoscaling.maxReplicas, %d; got %d" $most (int $scaling.minReplicas)) -}}
  {{- end -}}
{{- end -}}
{{- $rolling := .Values.updateStrategy -}}
{{- if and (not $local) (has (toString $rolling.maxSurge) (list "0" "0%")) (has (toString $rolling.maxUnavailable) (list "0" "0%")) -}}
  {{- fail "updateStrategy: maxSurge and maxUnavailable are both 0, so no replica could ever be replaced" -}}
{{- end -}}
{{- $secret := .Files.Get "files/secret-settings.yaml" | fromYamlArray -}}
{{- range $index, $one := .Values.secretSettings -}}
  {{- if not (or $one.secretName $.Values.existingSecret) -}}
    {{- fail (printf "secretSettings[%d]: wanted the Secret that has %s; set secretName there, or existingSecret for all" $index $one.setting) -}}
  {{- end -}}
{{- end -}}
{{- range $one := .Values.fileSettings -}}
  {{- if eq (empty $one.secretName) (empty $one.configMapName) -}}
    {{- fail (printf "fileSettings: %s wants secretName or configMapName, one of them" $one.setting) -}}
  {{- end -}}
  {{- if has $one.setting $secret -}}
    {{- fail (printf "fileSettings: %s is a secret, not the name of a file; it belongs in secretSettings" $one.setting) -}}
  {{- end -}}
{{- end -}}
{{- $given := concat .Values.secretSettings .Values.fileSettings -}}
{{- $names := list -}}
{{- range $given -}}{{- $names = append $names .setting -}}{{- end -}}
{{- if ne (len $names) (len (uniq $names)) -}}
  {{- fail (printf "secretSettings and fileSettings: a setting stands there twice: %s" (join ", " (sortAlpha $names))) -}}
{{- end -}}
{{- if and .Values.existingSecret (not .Values.secretSettings) -}}
  {{- fail (printf "existingSecret: %s is not used; say in secretSettings which settings its keys hold, e.g. [{setting: kafka.sasl_password, key: password}]" .Values.existingSecret) -}}
{{- end -}}
{{- $owned := list -}}
{{- range $section, $keys := include "streamer.ownSettings" . | fromYaml -}}
  {{- range $key, $_ := $keys -}}{{- $owned = append $owned (printf "STREAMER_%s__%s" $section $key | upper) -}}{{- end -}}
{{- end -}}
{{- $owned = concat $owned (list "STREAMER_STATE__STORE" "STREAMER_STATE__TOPIC") -}}
{{- range .Values.extraEnv -}}
  {{- if has .name $owned -}}
    {{- fail (printf "extraEnv: %s is what the chart sets in streamer.yaml; leave it out" .name) -}}
  {{- end -}}
  {{- if and (hasKey . "value") (regexMatch "(?i)(password|passwd|secret|token|credential|private_?key|api_?key)" .name) -}}
    {{- if not (regexMatch "(?i)(_file|_path|_dir)$" .name) -}}
      {{- fail (printf "extraEnv: %s looks like a secret, and would be readable in the manifest; use valueFrom: {secretKeyRef: {name: SECRET, key: KEY}}" .name) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- $http := include "streamer.http" . | fromYaml -}}
{{- if eq (get $http "open_health" | toString) "false" -}}
  {{- fail "config.http.open_health: wanted true; the probes of Kubernetes have neither login nor certificate" -}}
{{- end -}}
{{- $monitor := .Values.serviceMonitor -}}
{{- if and $monitor.enabled (get $http "auth_file") (not (or $monitor.basicAuth $monitor.authorization)) -}}
  {{- fail "serviceMonitor: http.auth_file asks for a login, and Prometheus has none; set serviceMonitor.basicAuth or serviceMonitor.authorization" -}}
{{- end -}}
{{- if and $monitor.enabled (get $http "tls_client_cafile") (not (get $monitor.tlsConfig "cert")) -}}
  {{- fail "serviceMonitor: http.tls_client_cafile asks for a client certificate, and Prometheus has none; set serviceMonitor.tlsConfig.cert and keySecret" -}}
{{- end -}}
{{- with include "streamer.memoryMb" . -}}
  {{- if lt (int .) 512 -}}
    {{- fail (printf "resources.limits.memory: wanted at least 512Mi; got %sMi" .) -}}
  {{- end -}}
{{- end -}}
{{- range $label := list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" -}}
  {{- if or (hasKey $.Values.commonLabels $label) (hasKey $.Values.podLabels $label) -}}
    {{- fail (printf "commonLabels, podLabels: %s is what the pods are selected by; leave it out" $label) -}}
  {{- end -}}
{{- end -}}
{{- end -}}
