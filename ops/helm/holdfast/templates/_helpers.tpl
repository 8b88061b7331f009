{{- define "holdfast.selector" -}}
app.kubernetes.io/name: holdfast
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "holdfast.path" -}}
{{ .Values.hub.baseUrl }}services/{{ .Values.hub.service }}/
{{- end }}
