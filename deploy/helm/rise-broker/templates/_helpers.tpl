{{- define "rise-broker.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- /* Without a volume of its own, a replica needs no name that stays. */ -}}
{{- define "rise-broker.kind" -}}
{{- ternary "StatefulSet" "Deployment" .Values.persistence.enabled -}}
{{- end }}

{{- define "rise-broker.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "rise-broker.labels" -}}
{{ include "rise-broker.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "rise-broker.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "rise-broker.name" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end }}

{{- define "rise-broker.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (.tag | default $.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- /* The settings: what the chart sets, and on top of it `config`. */ -}}
{{- define "rise-broker.config" -}}
{{- $server := dict
      "listen" "0.0.0.0:3000"
      "admin_listen" "0.0.0.0:3001"
      "admin_open" true
      "state_directory" "/var/lib/rise-broker/state" -}}
{{- if .Values.tls.secretName -}}
{{- $_ := set $server "tls" (dict
      "certificate_file" "/run/tls/tls.crt"
      "key_file" "/run/tls/tls.key") -}}
{{- end -}}
{{- $own := dict
      "server" $server
      "providers" (dict "directory" "/usr/lib/rise-broker/providers")
      "log" (dict "format" "json") -}}
{{- if .Values.config.shared -}}
{{- with .Values.autoscaling -}}
{{- $most := ternary .maxReplicas $.Values.replicas .enabled | int | max 1 -}}
{{- $_ := set $own "shared" (dict "replicas" $most) -}}
{{- end -}}
{{- end -}}
{{- mergeOverwrite $own (deepCopy .Values.config) | toYaml -}}
{{- end }}

{{- /* Where the volume of the state is mounted. Its root is root's, and other users may enter it, so
the broker makes a folder of its own in it. */ -}}
{{- define "rise-broker.volume" -}}
{{- $config := include "rise-broker.config" . | fromYaml -}}
{{- $usual := "/var/lib/rise-broker" -}}
{{- $state := clean $config.server.state_directory -}}
{{- $volume := ternary $usual (dir $state) (hasPrefix (printf "%s/" $usual) $state) -}}
{{- if or (not (isAbs $state)) (eq $volume "/") (eq $state $usual) -}}
{{- fail (printf
      "config.server.state_directory: %s is not inside a volume, whose root belongs to root; %s"
      $state "name a folder such as /var/lib/rise-broker/state") -}}
{{- end -}}
{{- $volume -}}
{{- end }}

{{- /* What the broker reads at its start only: the tables of READ_AT_START in host/src/reload, and
limits of providers that need a restart when they grow. */ -}}
{{- define "rise-broker.needsRestart" -}}
{{- $config := include "rise-broker.config" . | fromYaml -}}
{{- $limits := dict -}}
{{- range $name, $table := $config.providers -}}
{{- if kindIs "map" $table -}}
{{- with pick (get $table "limits" | default $table) "memory_mib" "table_elements" -}}
{{- $_ := set $limits $name . -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $tables := pick $config "server" "audit" "cache" "shared" "log" "traces" -}}
{{- list $tables $limits | toJson | sha256sum -}}
{{- end }}

{{- /* The port of a listener: `config` may name others than 3000 and 3001. */ -}}
{{- define "rise-broker.port" -}}
{{- $config := include "rise-broker.config" .root | fromYaml -}}
{{- get $config.server .listener | splitList ":" | last -}}
{{- end }}

{{- define "rise-broker.servicePort" -}}
{{- .Values.service.port | default (ternary 443 80 (not (empty .Values.tls.secretName))) -}}
{{- end }}

{{- /* The paths of secrets that stand in the settings as they are, one a line. Keys that providers
mark as secret, and what authors of other providers would call one. */ -}}
{{- define "rise-broker.literals" -}}
{{- $ends := list "password" "token" "secret" "secret_access_key" "access_key_id" "private_key"
      "service_account_key" -}}
{{- $keys := printf "(^|_)(%s)$" (join "|" $ends) -}}
{{- $path := .path -}}
{{- if kindIs "map" .value -}}
{{- range $key, $value := .value -}}
{{- $at := printf "%s.%s" $path $key -}}
{{- if and (kindIs "string" $value) (regexMatch $keys $key) -}}
{{- if and $value (not (regexMatch "(^|[^$])\\$\\{" $value)) }}{{ println $at }}{{ end -}}
{{- else -}}
{{- include "rise-broker.literals" (dict "path" $at "value" $value) -}}
{{- end -}}
{{- end -}}
{{- else if kindIs "slice" .value -}}
{{- range $index, $value := .value -}}
{{- include "rise-broker.literals" (dict "path" (printf "%s.%d" $path $index) "value" $value) -}}
{{- end -}}
{{- end -}}
{{- end }}
