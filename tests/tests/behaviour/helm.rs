//! The Helm chart of `deploy/helm`: rendered by Helm's own code, checked with the schemas of
//! Kubernetes, and its settings loaded by the broker.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use rise_broker::reload::READ_AT_START;
use rise_broker_tests::chart::{Rendered, check_manifests, read_yaml, render};
use rise_broker_tests::{Installation, repository, skipped};
use serde_json::{Value, json};

/// Seed 000, word for word.
const SEED: &str = r#"
serviceAccount:
  create: true
  iamRoleArn: "arn:aws:iam::123456789012:role/rise-backend"

config:
  registry:
    type: "ecr"
    region: "us-east-1"
    account_id: "123456789012"
    repo_prefix: "rise/"
    role_arn: "arn:aws:iam::123456789012:role/rise-backend"
    push_role_arn: "arn:aws:iam::123456789012:role/rise-backend-ecr-push"
    # NO static credentials with IRSA
"#;

/// A registry whose password is a file of a Secret, and other settings of many kinds.
const FULL: &str = r#"
config:
  registries:
    prod:
      type: oci
      registry_url: oci.example.com
      namespace: team
      username: robot
      password: "${file:/run/secrets/registry-login/password}"
      accept_scope: registry
  auth:
    audience: rise-registry
    issuers: [{ name: local, key_file: issuer.pem }]
  rules:
    - name: ci
      issuer: local
      claims: { repository: "acme/{project}" }
      projects: ["*"]
      registries: [prod]
      allow: [pull, push]
  limits: { address: { per_second: 1000000, burst: 1000000 } }
  server: { trusted_proxies: [10.0.0.0/8] }
  log: { level: "info,rise_broker=debug" }
secrets: [registry-login]
env: [{ name: HTTPS_PROXY, value: "http://proxy:3128" }]
envFrom: [{ secretRef: { name: more } }]
image: { digest: "sha256:0000000000000000000000000000000000000000000000000000000000000000" }
replicas: 3
tls: { secretName: broker-tls }
service: { type: LoadBalancer, annotations: { a: b } }
ingress:
  enabled: true
  className: nginx
  annotations: { a: b }
  host: broker.example.com
  tlsSecretName: broker-tls
gateway: { enabled: true, parentRefs: [{ name: public }], hostnames: [broker.example.com] }
networkPolicy:
  callers: [{ ipBlock: { cidr: 10.0.0.0/8 } }]
  egress:
    to: [{ ipBlock: { cidr: 0.0.0.0/0 } }]
    extra: [{ to: [{ ipBlock: { cidr: 10.9.0.1/32 } }], ports: [{ port: 5000, protocol: TCP }] }]
serviceMonitor: { enabled: true, interval: 10s, labels: { release: prometheus } }
prometheusRule: { enabled: true, labels: { release: prometheus } }
dashboard: { enabled: true, labels: { dashboards: all } }
terminationGracePeriodSeconds: 60
priorityClassName: high
nodeSelector: { disk: fast }
tolerations: [{ operator: Exists }]
affinity: { nodeAffinity: {} }
podLabels: { team: platform }
podAnnotations: { note: "1" }
topologySpreadConstraints:
  - { maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {} }
extraVolumes: [{ name: more, configMap: { name: more } }]
extraVolumeMounts: [{ name: more, mountPath: /more }]
"#;

/// Everything that can be off is off.
const LEAST: &str = r"
config: { registry: { type: docker, registry_url: localhost:5000 } }
serviceAccount: { create: false }
persistence: { enabled: false }
networkPolicy: { enabled: false }
podDisruptionBudget: { enabled: false }
resources: {}
";

const OTHERS: &str = r#"
config:
  registry: { type: docker, registry_url: localhost:5000 }
  server: { listen: "[::]:8080", admin_listen: "[::]:8081", state_directory: /state/rise }
serviceAccount: { name: mine, annotations: { a: b } }
image:
  repository: r.example.com/rise-broker
  tag: "2"
  pullPolicy: Always
  pullSecrets: [{ name: login }]
persistence: { size: 1Gi, storageClass: fast, accessModes: [ReadWriteOncePod] }
networkPolicy: { monitoring: [], egress: { ports: [443, 8443] } }
podDisruptionBudget: { maxUnavailable: 0 }
service: { port: 8443 }
"#;

/// Several replicas that share everything, and have no volume.
const SHARED: &str = r#"
config:
  registry: { type: docker, registry_url: localhost:5000 }
  audit:
    ship:
      postgres:
        url: "postgresql://rise_ship@db.example.com/audit"
        password: "${file:/run/secrets/rise-shared/database}"
secrets: [rise-shared]
persistence: { enabled: false }
autoscaling: { enabled: true, minReplicas: 2, maxReplicas: 9, requestsInFlight: 50 }
networkPolicy: { egress: { ports: [443, 5432, 6379] } }
"#;

const CASES: [(&str, &str); 5] =
    [("seed", SEED), ("full", FULL), ("least", LEAST), ("others", OTHERS), ("shared", SHARED)];

fn cases() -> Vec<(String, Rendered)> {
    render(&CASES).into_iter().map(|(name, rendered)| (name, rendered.unwrap())).collect()
}

fn one(values: &str) -> Rendered {
    render(&[("one", values)]).remove("one").unwrap().unwrap()
}

fn workload(rendered: &Rendered) -> &Value {
    let is_it = |object: &&Value| object["spec"]["template"]["spec"]["containers"].is_array();
    let found: Vec<&Value> = rendered.objects.iter().filter(is_it).collect();
    assert_eq!(found.len(), 1, "{found:#?}");
    found[0]
}

fn pod(rendered: &Rendered) -> &Value {
    &workload(rendered)["spec"]["template"]["spec"]
}

/// A folder for the broker, in which these settings are a mounted `ConfigMap`.
fn mounted(settings: &str) -> Installation {
    let installation = Installation::new("");
    fs::remove_file(installation.path("config/default.toml")).unwrap();
    swap(&installation, "..first", settings);
    symlink("..data/default.yaml", installation.path("config/default.yaml")).unwrap();
    installation
}

/// What the kubelet does when a `ConfigMap` changes.
fn swap(installation: &Installation, name: &str, settings: &str) {
    installation.folder(&format!("config/{name}"), 0o755);
    installation.file(&format!("config/{name}/default.yaml"), settings);
    let link = installation.path("config/..data_tmp");
    symlink(name, &link).unwrap();
    fs::rename(link, installation.path("config/..data")).unwrap();
}

#[test]
fn the_seeds_values_work_as_printed() {
    let rendered = one(SEED);
    let account = rendered.one("ServiceAccount", "");
    let role = json!("arn:aws:iam::123456789012:role/rise-backend");
    assert_eq!(account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"], role);
    assert_eq!(pod(&rendered)["serviceAccountName"], account["metadata"]["name"]);
    let checked = mounted(rendered.settings()).run(&["check"]);
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    assert!(checked.stdout.contains("ecr"), "{}", checked.stdout);
}

/// The values of `docs/install/kubernetes.md`, as printed.
#[test]
fn the_pages_values_work_as_printed() {
    let page = fs::read_to_string(repository().join("docs/install/kubernetes.md")).unwrap();
    let blocks: Vec<&str> = page.split("```").filter_map(|it| it.strip_prefix("yaml\n")).collect();
    assert_eq!(blocks.len(), 2);
    for block in blocks {
        let rendered = one(block);
        let (problems, _) = check_manifests(&rendered.objects, &["1.37"]);
        assert!(problems.is_empty(), "{block}: {problems:#?}");
        let installation = mounted(&rendered.settings().replace("/run/", "./"));
        fs::create_dir_all(installation.path("secrets/harbor-login")).unwrap();
        installation.file("secrets/harbor-login/password", "canary");
        let checked = installation.run(&["check"]);
        assert_eq!(checked.code, Some(0), "{block}: {}", checked.stderr);
    }
}

#[test]
fn replicas_without_volumes_are_a_deployment_that_scales_and_never_shrinks_first() {
    let rendered = one(SHARED);
    let workload = workload(&rendered);
    assert_eq!(workload["kind"], "Deployment");
    assert!(workload["spec"].get("replicas").is_none(), "the autoscaler chooses");
    let expected = json!({ "maxSurge": 1, "maxUnavailable": 0 });
    assert_eq!(workload["spec"]["strategy"]["rollingUpdate"], expected);
    let scaler = rendered.one("HorizontalPodAutoscaler", "rise-broker");
    assert_eq!(scaler["spec"]["scaleTargetRef"]["kind"], "Deployment");
    assert_eq!(scaler["spec"]["maxReplicas"], 9);
    let least = one(LEAST);
    assert_eq!(self::workload(&least)["spec"]["replicas"], 1);
    assert!(least.notes.contains("the audit log ends with its pod"), "{}", least.notes);
    assert!(least.notes.contains("is lost with its pod"), "{}", least.notes);
    assert!(!one(SEED).notes.contains("is lost with its pod"));
    assert!(!rendered.notes.contains("the audit log ends"), "{}", rendered.notes);
    assert!(one(FULL).notes.contains("count limits and used tokens alone"));
    assert_eq!(self::workload(&one(SEED))["kind"], "StatefulSet");
}

#[test]
fn kubernetes_accepts_every_switch() {
    for (name, rendered) in cases() {
        let trouble = |finding: &&Value| finding["severity"].as_i64() > Some(1);
        let findings: Vec<&Value> = rendered.findings.iter().filter(trouble).collect();
        assert!(findings.is_empty(), "{name}: {findings:#?}");
        let versions = ["1.26", "1.32", "1.37"];
        let (problems, unknown) = check_manifests(&rendered.objects, &versions);
        assert!(problems.is_empty(), "{name}: {problems:#?}");
        let more = [
            "gateway.networking.k8s.io/v1 HTTPRoute",
            "monitoring.coreos.com/v1 PrometheusRule",
            "monitoring.coreos.com/v1 ServiceMonitor",
        ];
        let expected: &[&str] = if name == "full" { &more } else { &[] };
        assert_eq!(unknown, expected, "{name}");
    }
}

/// Tables whose members Kubernetes or the broker know, and the chart does not.
const FREE: [&str; 12] = [
    "affinity",
    "config",
    "dashboard.labels",
    "ingress.annotations",
    "nodeSelector",
    "podAnnotations",
    "podLabels",
    "prometheusRule.labels",
    "resources",
    "service.annotations",
    "serviceMonitor.labels",
    "serviceAccount.annotations",
];

/// The paths of all values, such as `tls.secretName`. Lists and free tables are one value.
fn paths(values: &Value, above: &str) -> BTreeSet<String> {
    let members = values.as_object().into_iter().flatten();
    let below = members.flat_map(|(name, value)| {
        let path = format!("{above}{name}");
        let is_table = value.as_object().is_some_and(|table| !table.is_empty());
        if is_table && !FREE.contains(&path.as_str()) {
            paths(value, &format!("{path}."))
        } else {
            BTreeSet::from([path])
        }
    });
    below.collect()
}

/// A new value has to be tried in a case.
#[test]
fn every_value_of_the_chart_is_in_a_case() {
    let folder = tempfile::tempdir().unwrap();
    let mut tried = BTreeSet::new();
    for (name, values) in CASES {
        let file = folder.path().join(name);
        fs::write(&file, values).unwrap();
        tried.extend(paths(&read_yaml(file.to_str().unwrap()), ""));
    }
    let all = paths(&read_yaml("deploy/helm/rise-broker/values.yaml"), "");
    assert!(all.len() > 40, "{all:?}");
    let untried: Vec<&String> = all.difference(&tried).collect();
    assert!(untried.is_empty(), "{untried:?}");
}

#[test]
fn a_member_that_kubernetes_does_not_have_is_found() {
    let mut policy = one(SEED).one("PodDisruptionBudget", "").clone();
    policy["spec"]["maxUnavailible"] = json!(1);
    let (problems, _) = check_manifests(&[policy], &["1.37"]);
    assert_eq!(problems.len(), 1, "{problems:#?}");
}

/// The profile `restricted` of the Pod Security Standards.
#[test]
fn pods_are_restricted() {
    for (name, rendered) in cases() {
        let pod = pod(&rendered);
        for member in ["hostNetwork", "hostPID", "hostIPC", "initContainers"] {
            assert!(pod.get(member).is_none(), "{name}: {member}");
        }
        let context = &pod["securityContext"];
        assert_eq!(context["runAsNonRoot"], true, "{name}");
        assert!(context["runAsUser"].as_u64() > Some(0), "{name}");
        assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault", "{name}");
        let containers = pod["containers"].as_array().unwrap();
        assert_eq!(containers.len(), 1, "{name}");
        let expected = json!({
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"] },
        });
        assert_eq!(containers[0]["securityContext"], expected, "{name}");
        for port in containers[0]["ports"].as_array().unwrap() {
            assert!(port.get("hostPort").is_none(), "{name}: {port}");
        }
        for volume in pod["volumes"].as_array().unwrap() {
            let kinds: BTreeSet<&String> = volume.as_object().unwrap().keys().collect();
            let allowed = ["configMap", "secret", "emptyDir"];
            let is_allowed = |kind: &&&String| allowed.contains(&kind.as_str());
            assert_eq!(kinds.iter().filter(is_allowed).count(), 1, "{name}: {volume}");
        }
        assert_eq!(pod["automountServiceAccountToken"], false, "{name}");
        // Kubernetes would set RISE_BROKER_PORT and others, which look like settings.
        assert_eq!(pod["enableServiceLinks"], false, "{name}");
    }
}

#[test]
fn any_setting_and_secret_reaches_the_broker() {
    let rendered = one(FULL);
    let mounts = pod(&rendered)["containers"][0]["volumeMounts"].as_array().unwrap();
    let mut paths: Vec<&str> = mounts.iter().filter_map(|it| it["mountPath"].as_str()).collect();
    paths.sort_unstable();
    let expected = [
        "/etc/rise-broker",
        "/more",
        "/run/secrets/registry-login",
        "/run/tls",
        "/var/lib/rise-broker",
    ];
    assert_eq!(paths, expected);
    // The files of the Secrets lie elsewhere here.
    let installed = mounted(&rendered.settings().replace("/run/", "./"));
    fs::create_dir_all(installed.path("secrets/registry-login")).unwrap();
    installed.folder("tls", 0o755);
    let made = rcgen::generate_simple_self_signed(["broker.example.com".to_owned()]).unwrap();
    for (name, text) in [
        ("secrets/registry-login/password", "canary".to_owned()),
        ("tls/tls.crt", made.cert.pem()),
        ("tls/tls.key", made.signing_key.serialize_pem()),
    ] {
        installed.file(name, text);
        fs::set_permissions(installed.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let checked = installed.run(&["check"]);
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    assert_eq!(checked.stderr, "");
}

#[tokio::test]
async fn a_changed_config_map_is_loaded_without_a_restart() {
    let values = FULL.replace("tls: { secretName: broker-tls }", "");
    let values = values.replace("${file:/run/secrets/registry-login/password}", "${NONE:-canary}");
    let more = "config:\n  registries:\n    second: { type: oci, registry_url: two.example.com }\n";
    let (first, second) =
        (one(&values), one(&values.replacen("config:\n  registries:\n", more, 1)));
    let annotations = |rendered: &Rendered| {
        workload(rendered)["spec"]["template"]["metadata"]["annotations"].clone()
    };
    assert_eq!(annotations(&first), annotations(&second), "the pods restart");
    let third = one(&values.replace("debug", "info"));
    assert_ne!(annotations(&first), annotations(&third), "`log` needs a restart");

    let installation = mounted(first.settings());
    let serving = installation.serve();
    serving.until("/readyz", |ready| ready["registries"] == 1).await;
    swap(&installation, "..second", second.settings());
    fs::remove_dir_all(installation.path("config/..first")).unwrap();
    serving.until("/readyz", |ready| ready["registries"] == 2).await;
}

fn restart_mark(rendered: &Rendered) -> &Value {
    &workload(rendered)["spec"]["template"]["metadata"]["annotations"]["rise-broker/needs-restart"]
}

#[test]
fn what_the_broker_reads_at_start_restarts_the_pods_and_nothing_else_does() {
    let others = ["registries", "registry", "auth", "rules", "operators", "limits", "signing"];
    let of_tables = READ_AT_START.iter().map(|table| (true, format!("{table}: {{ x: 1 }}")));
    let of_others = others.iter().map(|table| (false, format!("{table}: {{ x: 1 }}")));
    let of_limits = [
        (true, "providers: { limits: { memory_mib: 65 } }"),
        (true, "providers: { ecr: { limits: { table_elements: 20001 } } }"),
        (false, "providers: { limits: { cpu_ms: 9 }, ecr: { wasi: stubbed } }"),
    ];
    let of_limits = of_limits.map(|(restarts, text)| (restarts, text.to_owned()));
    let tables: Vec<_> = of_tables.chain(of_others).chain(of_limits).collect();
    let values: Vec<(bool, String)> = tables
        .into_iter()
        .map(|(restarts, table)| (restarts, format!("config: {{ {table} }}")))
        .collect();
    let mut cases: Vec<_> = values.iter().map(|(_, text)| (text.as_str(), text.as_str())).collect();
    cases.push(("nothing", "config: {}"));
    let rendered = render(&cases);
    let nothing = restart_mark(rendered["nothing"].as_ref().unwrap());
    for (restarts, text) in &values {
        let mark = restart_mark(rendered[text].as_ref().unwrap());
        assert_eq!(mark != nothing, *restarts, "{text}");
    }
}

#[test]
fn the_number_of_brokers_is_that_of_the_replicas_unless_it_is_stated() {
    let cases = [
        ("3", "config: { shared: { url: x } }\nreplicas: 3"),
        ("9", "config: { shared: { url: x } }\nautoscaling: { enabled: true, maxReplicas: 9 }"),
        ("4", "config: { shared: { replicas: 4 } }\nautoscaling: { enabled: true }"),
        ("1", "config: { shared: { url: x } }\nreplicas: 0"),
    ];
    for (number, rendered) in render(&cases) {
        let rendered = rendered.unwrap();
        let line = format!("  replicas: {number}\n");
        assert!(rendered.settings().contains(&line), "{}", rendered.settings());
    }
    assert!(!one("replicas: 3").settings().contains("shared"));
}

/// The settings that the providers of this repository mark as secret.
fn secret_settings() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(repository().join("dist/providers")).unwrap() {
        let file = entry.unwrap().path();
        let arguments = ["provider", "inspect", file.to_str().unwrap()];
        let printed = Installation::new("").run(&arguments).stdout;
        let mut rows = printed.lines().skip_while(|line| !line.contains(" SECRET "));
        let column = rows.next().and_then(|head| head.find("SECRET")).expect(&printed);
        let marked = rows.filter(|row| row.get(column..).is_some_and(|it| it.starts_with("yes")));
        found.extend(marked.map(|row| row.split_whitespace().next().unwrap().to_owned()));
    }
    found
}

#[test]
fn a_secret_stands_in_no_config_map() {
    let mut names = secret_settings();
    assert!(names.contains("password") && names.len() > 5, "{names:?}");
    names.extend(["admin_token", "api_secret"].map(str::to_owned));
    let table = |name: &str, text: &str| format!("{{ type: x, {name}: {} }}", json!(text));
    let mut cases = Vec::new();
    for name in &names {
        let one = |text: &str| format!("config: {{ registry: {} }}", table(name, text));
        let many =
            |text: &str| format!("config: {{ registries: {{ prod: {} }} }}", table(name, text));
        let deep = |text: &str| {
            format!("config: {{ registry: {{ type: x, more: [{}] }} }}", table(name, text))
        };
        for (path, text) in [
            (format!("config.registry.{name}"), one("canary")),
            (format!("config.registry.{name}"), one("$${canary}")),
            (format!("config.registries.prod.{name}"), many("canary")),
            (format!("config.registry.more.0.{name}"), deep("canary")),
            (
                format!("config.shared.{name}"),
                format!("config: {{ shared: {} }}", table(name, "x-canary")),
            ),
            (
                format!("config.traces.{name}"),
                format!("config: {{ traces: {} }}", table(name, "canary")),
            ),
        ] {
            cases.push((format!("{} {text}", cases.len()), text, Some(path)));
        }
        for text in ["", "${REGISTRY_SECRET}", "${file:/run/secrets/a/b}", "a:${B:-}"] {
            cases.push((format!("{} {text}", cases.len()), many(text), None));
        }
    }
    let other = table("token_url", "https://example.com");
    let claims = "rules: [{ name: a, claims: { token: canary } }]";
    let text = format!("config: {{ registry: {other}, {claims} }}");
    cases.push(("others".to_owned(), text, None));
    let asked: Vec<(&str, &str)> =
        cases.iter().map(|(name, text, _)| (name.as_str(), text.as_str())).collect();
    let rendered = render(&asked);
    for (name, _, path) in &cases {
        match (&rendered[name], path) {
            (Ok(_), None) => {}
            (Err(error), Some(path)) => {
                assert!(error.contains(&format!("{path}: literal secret")), "{name}: {error}");
                assert!(!error.contains("canary"), "{name}: {error}");
            }
            (other, _) => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn the_notes_say_what_is_open() {
    let closed = "config: { server: { admin_listen: 127.0.0.1:3001 } }";
    let asked = [("seed", SEED), ("least", LEAST), ("others", OTHERS), ("closed", closed)];
    let rendered = render(&asked);
    for (name, port, told) in [
        ("seed", "0.0.0.0:3001", "without a network plugin that enforces it nothing does"),
        ("least", "0.0.0.0:3001", "every pod of the cluster reads them"),
        ("others", "[::]:8081", "without a network plugin that enforces it nothing does"),
    ] {
        let notes = &rendered[name].as_ref().unwrap().notes;
        assert!(notes.contains(&format!("Metrics and /readyz ({port}) need no login.")), "{notes}");
        assert!(notes.contains(told), "{name}: {notes}");
        assert!(notes.contains("ConfigMaps of this namespace reads `config`"), "{name}: {notes}");
    }
    let notes = &rendered["closed"].as_ref().unwrap().notes;
    assert!(!notes.contains("need no login"), "{notes}");
}

/// The root of a volume is root's, and others may enter it (`volumes.rs`).
#[test]
fn the_state_is_a_folder_inside_the_volume() {
    let below = "config: { server: { state_directory: /var/lib/rise-broker/of/this } }";
    let cases = CASES.into_iter().chain([("below", below)]).collect::<Vec<_>>();
    for (name, rendered) in render(&cases) {
        let rendered = rendered.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("default.yaml");
        fs::write(&file, rendered.settings()).unwrap();
        let settings = read_yaml(file.to_str().unwrap());
        let state = settings["server"]["state_directory"].as_str().unwrap();
        let mounts = pod(&rendered)["containers"][0]["volumeMounts"].as_array().unwrap();
        let volume = mounts.iter().find(|mount| mount["name"] == "state").unwrap();
        let volume = volume["mountPath"].as_str().unwrap();
        assert!(Path::new(state).parent().unwrap().starts_with(volume), "{name}: {volume} {state}");
        let expected = if name == "others" { "/state" } else { "/var/lib/rise-broker" };
        assert_eq!(volume, expected, "{name}");
    }
}

#[test]
fn wrong_values_are_rejected() {
    const INSIDE: &str = "is not inside a volume";
    let wrong = [
        ("misspelled", "serviceAcount: { create: true }", "serviceAcount"),
        ("beside config", "registry: { type: ecr }", "registry"),
        ("type", "replicas: many", "replicas"),
        ("role", "serviceAccount: { iamRoleArn: rise-backend }", "iamRoleArn"),
        ("digest", "image: { digest: latest }", "digest"),
        ("host", "ingress: { enabled: true }", "ingress.host"),
        ("parents", "gateway: { enabled: true }", "gateway.parentRefs"),
        ("root", "config: { server: { state_directory: /var/lib/rise-broker/ } }", INSIDE),
        ("no volume", "config: { server: { state_directory: /state } }", INSIDE),
        ("relative", "config: { server: { state_directory: rise/state } }", INSIDE),
    ];
    let cases: Vec<(&str, &str)> = wrong.iter().map(|(name, values, _)| (*name, *values)).collect();
    let rendered = render(&cases);
    for (name, _, told) in wrong {
        let error = rendered[name].as_ref().expect_err(name);
        assert!(error.contains(told), "{name}: {error}");
    }
}

#[test]
fn the_chart_has_exactly_the_alerts_and_the_dashboard() {
    let rendered = one(FULL);
    let rules = read_yaml("deploy/prometheus/rise-broker.rules.yml");
    let rule = rendered.one("PrometheusRule", "");
    assert_eq!(rule["spec"], rules);
    assert_eq!(rule["metadata"]["labels"]["release"], "prometheus");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rules.yml");
    fs::write(&file, rule["spec"].to_string()).unwrap();
    let checked = Command::new("promtool").args(["check", "rules"]).arg(file).output().unwrap();
    assert!(checked.status.success(), "{checked:?}");
    let dashboard = &rendered.one("ConfigMap", "dashboard")["data"]["rise-broker.json"];
    let loaded: Value = serde_json::from_str(dashboard.as_str().unwrap()).unwrap();
    assert_eq!(loaded, read_yaml("deploy/grafana/rise-broker.json"));
}

/// `.checkov.yaml` of the chart explains the checks that it leaves out.
#[test]
fn checkov_finds_nothing_else() {
    if Command::new("checkov").arg("--version").output().is_err() {
        return skipped("checkov is not installed");
    }
    let folder = tempfile::tempdir().unwrap();
    let config = repository().join("deploy/helm/rise-broker/.checkov.yaml");
    let rendered = one(SEED);
    let file = folder.path().join("chart.yaml");
    let objects: Vec<String> = rendered.objects.iter().map(Value::to_string).collect();
    fs::write(&file, objects.join("\n---\n")).unwrap();
    let mut command = Command::new("timeout");
    command.args(["100", "checkov", "--config-file"]).arg(config).arg("--file").arg(file);
    let ran = command.current_dir(folder.path()).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout));
}
