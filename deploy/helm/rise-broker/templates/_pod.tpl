{{- /* The template of the pods, whatever kind of workload has it. */ -}}
{{- define "rise-broker.pod" -}}
metadata:
  labels:
    {{- include "rise-broker.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # The broker itself reads all other settings when they change.
    rise-broker/needs-restart: {{ include "rise-broker.needsRestart" . }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "rise-broker.serviceAccount" . }}
  automountServiceAccountToken: false
  # Its variables would look like settings: RISE_BROKER_PORT and others.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.image.pullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  topologySpreadConstraints:
    {{- with .Values.topologySpreadConstraints }}
    {{- toYaml . | nindent 4 }}
    {{- else }}
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels: {{- include "rise-broker.selector" . | nindent 10 }}
    {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    # Otherwise the kubelet opens the keys in the volume to the group at each start.
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: { type: RuntimeDefault }
  containers:
    - name: broker
      image: {{ include "rise-broker.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      command: [rise-broker, serve, --config-dir, /etc/rise-broker]
      {{- with .Values.env }}
      env: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.envFrom }}
      envFrom: {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - name: http
          containerPort: {{ include "rise-broker.port" (dict "root" . "listener" "listen") }}
        - name: admin
          containerPort: {{ include "rise-broker.port" (dict "root" . "listener" "admin_listen") }}
      # The first start compiles the providers.
      startupProbe:
        httpGet: { path: /healthz, port: admin }
        periodSeconds: 1
        failureThreshold: 120
      livenessProbe:
        httpGet: { path: /healthz, port: admin }
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: { path: /readyz, port: admin }
        periodSeconds: 3
        timeoutSeconds: 3
        failureThreshold: 2
      {{- with .Values.resources }}
      resources: {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: { drop: [ALL] }
      volumeMounts:
        - { name: config, mountPath: /etc/rise-broker, readOnly: true }
        - { name: state, mountPath: {{ include "rise-broker.volume" . }} }
        {{- if .Values.tls.secretName }}
        - { name: tls, mountPath: /run/tls, readOnly: true }
        {{- end }}
        {{- range $index, $name := .Values.secrets }}
        - { name: secret-{{ $index }}, mountPath: /run/secrets/{{ $name }}, readOnly: true }
        {{- end }}
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: config
      configMap: { name: {{ include "rise-broker.name" . }} }
    {{- if not .Values.persistence.enabled }}
    - name: state
      emptyDir: {}
    {{- end }}
    {{- with .Values.tls.secretName }}
    - name: tls
      secret: { secretName: {{ . }}, defaultMode: 0440 }
    {{- end }}
    {{- range $index, $name := .Values.secrets }}
    - name: secret-{{ $index }}
      secret: { secretName: {{ $name }}, defaultMode: 0440 }
    {{- end }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}
