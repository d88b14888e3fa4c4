{{- define "custos.name" -}}
{{- if contains "custos" .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}{{ else }}{{ printf "%s-custos" .Release.Name | trunc 52 | trimSuffix "-" }}{{ end -}}
{{- end }}

{{- define "custos.selector" -}}
app.kubernetes.io/name: custos
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "custos.labels" -}}
{{ include "custos.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- /* The configuration file: what is given, and what the chart decides. */}}
{{- define "custos.config" -}}
{{- $own := dict "listen" (dict "https" "0.0.0.0:8443" "postgres" "0.0.0.0:15432") "data_dir" "/data/custos" }}
{{- if .Values.tls.secretName }}
{{- $_ := set $own "tls" (dict "certificate" "/tls/tls.crt" "key" "/tls/tls.key") }}
{{- end }}
{{- $given := dict }}
{{- range $key, $value := .Values.config }}
{{- if $value }}{{ $_ := set $given $key $value }}{{ end }}
{{- end }}
{{- toYaml (merge $own $given) }}
{{- end }}
