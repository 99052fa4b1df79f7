{{- define "vsphere-preemption.labels" -}}
app.kubernetes.io/name: vsphere-preemption-worker
app.kubernetes.io/part-of: vsphere-preemption
{{- end }}

{{- define "vsphere-preemption.config" -}}
{{- default (.Files.Get "files/preemption.yaml") .Values.config }}
{{- end }}

{{- define "vsphere-preemption.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end }}
