{{/* What every pod of the release has in common: replicas, retraining, `helm test`. */}}

{{- define "streamer.podSecurity" -}}
serviceAccountName: {{ include "streamer.serviceAccountName" . }}
# Nothing here talks to the API of Kubernetes.
automountServiceAccountToken: false
# A Service named streamer-x would else appear as STREAMER_X_... in the environment, where streamer looks for settings.
enableServiceLinks: false
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "streamer.containerImage" -}}
image: {{ include "streamer.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
{{- end -}}

{{- define "streamer.env" -}}
{{- $kafka := include "streamer.kafka" . | fromYaml -}}
{{- if not (hasKey $kafka "client_id") }}
# The pod's name in the logs of the broker.
- name: STREAMER_KAFKA__CLIENT_ID
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{- end }}
{{- range .Values.secretSettings }}
- name: STREAMER_{{ .setting | replace "." "__" | upper }}_FILE
  value: /etc/streamer/secrets/{{ .setting }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "streamer.volumes" -}}
- name: config
  configMap:
    name: {{ include "streamer.fullname" . }}
- name: bundles
  persistentVolumeClaim:
    claimName: {{ include "streamer.modelClaim" . }}
- name: tmp
  emptyDir: {sizeLimit: 256Mi}
{{- if .Values.secretSettings }}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
    {{- range .Values.secretSettings }}
    - secret:
        name: {{ default $.Values.existingSecret .secretName }}
        items:
        - {key: {{ .key | quote }}, path: {{ .setting | quote }}}
    {{- end }}
{{- end }}
{{- if .Values.fileSettings }}
- name: files
  projected:
    defaultMode: 0440
    sources:
    {{- range .Values.fileSettings }}
    {{- if .secretName }}
    - secret:
        name: {{ .secretName }}
    {{- else }}
    - configMap:
        name: {{ .configMapName }}
    {{- end }}
        items:
        - {key: {{ .key | quote }}, path: {{ .setting | quote }}}
    {{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "streamer.volumeMounts" -}}
- {name: config, mountPath: /etc/streamer/streamer.yaml, subPath: streamer.yaml, readOnly: true}
- {name: tmp, mountPath: /tmp}
{{- if .Values.secretSettings }}
- {name: secrets, mountPath: /etc/streamer/secrets, readOnly: true}
{{- end }}
{{- if .Values.fileSettings }}
- {name: files, mountPath: /etc/streamer/files, readOnly: true}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The pod template of Deployment and StatefulSet. */}}
{{- define "streamer.podTemplate" -}}
{{- $kind := include "streamer.storeKind" . -}}
{{- $probe := dict "httpGet" (dict "port" "metrics" "scheme" (include "streamer.httpScheme" .)) -}}
metadata:
  annotations:
    # A changed configuration replaces the pods.
    checksum/config: {{ include "streamer.config" . | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  labels:
    {{- include "streamer.podLabels" . | nindent 4 }}
    app.kubernetes.io/component: daemon
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- include "streamer.podSecurity" . | nindent 2 }}
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  containers:
  - name: streamer
    {{- include "streamer.containerImage" . | nindent 4 }}
    args: [run, --config, /etc/streamer/streamer.yaml]
    env:
      {{- include "streamer.env" . | trim | nindent 6 }}
      {{- if and .Values.autoscaling.enabled (include "streamer.kedaUsernameFromEnv" .) }}
      # Where KEDA finds the name it logs in with.
      - name: STREAMER_KAFKA__SASL_USERNAME
        value: {{ include "streamer.kedaUsernameFromEnv" . | quote }}
      {{- end }}
    {{- with .Values.extraEnvFrom }}
    envFrom:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    ports:
    - {name: metrics, containerPort: {{ .Values.metrics.port }}, protocol: TCP}
    startupProbe:
      {{- toYaml (merge (dict "httpGet" (merge (dict "path" "/healthz") $probe.httpGet)) .Values.startupProbe) | nindent 6 }}
    livenessProbe:
      {{- toYaml (merge (dict "httpGet" (merge (dict "path" "/healthz") $probe.httpGet)) .Values.livenessProbe) | nindent 6 }}
    readinessProbe:
      {{- toYaml (merge (dict "httpGet" (merge (dict "path" "/readyz") $probe.httpGet)) .Values.readinessProbe) | nindent 6 }}
    resources:
      {{- toYaml .Values.resources | nindent 6 }}
    volumeMounts:
      {{- include "streamer.volumeMounts" . | nindent 6 }}
      - {name: bundles, mountPath: /var/lib/streamer/bundles, readOnly: true}
      {{- if eq $kind "local" }}
      - {name: state, mountPath: /var/lib/streamer/state}
      {{- else if eq $kind "folder" }}
      - {name: shared-state, mountPath: {{ include "streamer.sharedStatePath" . }}}
      {{- end }}
  volumes:
    {{- include "streamer.volumes" . | nindent 4 }}
    {{- if eq $kind "folder" }}
    - name: shared-state
      persistentVolumeClaim:
        claimName: {{ .Values.state.existingClaim }}
    {{- end }}
  {{- with .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- range . }}
    - {{ toYaml . | nindent 6 | trim }}
      {{- if not (hasKey . "labelSelector") }}
      labelSelector:
        matchLabels:
          {{- include "streamer.selectorLabels" $ | nindent 10 }}
      {{- end }}
    {{- end }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
