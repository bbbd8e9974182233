{{/* Names and labels. A name leaves room for the longest suffix: a CronJob's name has at most 52 characters. */}}

{{- define "streamer.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 43 | trimSuffix "-" -}}
{{- end -}}

{{- define "streamer.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 43 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 43 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 43 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Every pod of the release, whatever it does. */}}
{{- define "streamer.releaseLabels" -}}
app.kubernetes.io/name: {{ include "streamer.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* The replicas. A selector cannot be changed, so nothing here may depend on values that do. */}}
{{- define "streamer.selectorLabels" -}}
{{ include "streamer.releaseLabels" . }}
app.kubernetes.io/component: daemon
{{- end -}}

{{/* Labels of pods: without versions, so that a new chart alone replaces no pod. */}}
{{- define "streamer.podLabels" -}}
{{ include "streamer.releaseLabels" . }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "streamer.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "streamer.releaseLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "streamer.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "streamer.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "streamer.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "streamer.job" -}}
{{- default (include "streamer.fullname" .) .Values.metrics.job -}}
{{- end -}}

{{- define "streamer.modelClaim" -}}
{{- default (printf "%s-bundles" (include "streamer.fullname" .)) .Values.model.existingClaim -}}
{{- end -}}
