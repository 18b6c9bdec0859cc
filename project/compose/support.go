package compose

// How davit treats an attribute of the specification.
const (
	acted   = iota // it is done
	warned         // it is accepted, and a warning says that nothing comes of it
	ignored        // there is nothing to do: documentation, other platforms' hints
	refused        // it is an error
)

// A row says how one attribute, and all below it that has no row of its own,
// is treated. In Path, * is any key and [] any item of a list.
type row struct {
	Path  string
	Treat int
	Note  string // why, or what is different
	// Only, when set, narrows warned down to these values of a scalar; a
	// leading ! turns it around.
	Only []string
}

// rows go over the whole specification: a test holds that no attribute of the
// schema is left out.
var rows = []row{
	{Path: "version", Treat: warned, Note: "the attribute `version` is obsolete, it will be ignored, please remove it to avoid potential confusion"},
	{Path: "name"}, {Path: "include"}, {Path: "services"},
	{Path: "jobs", Treat: warned, Note: "jobs are not started yet"},
	{Path: "models", Treat: warned, Note: "models are not served yet"},
	{Path: "networks"}, {Path: "volumes"}, {Path: "secrets"}, {Path: "configs"},

	{Path: "networks.*.driver", Treat: warned, Note: "only bridge, macvlan, ipvlan, host and none exist; a network of another driver is refused", Only: []string{"!bridge", "default", "macvlan", "ipvlan", "host", "none", ""}},
	{Path: "networks.*.ipam.driver", Treat: warned, Note: "davit gives out the addresses itself", Only: []string{"!default", ""}},
	{Path: "networks.*.ipam.options", Treat: warned, Note: "davit's address plan has no options"},
	{Path: "networks.*.attachable", Treat: ignored, Note: "every network can be joined"},
	{Path: "volumes.*.driver", Treat: warned, Note: "only local volumes exist; this one becomes local", Only: []string{"!local", "default", ""}},
	{Path: "secrets.*.driver", Treat: refused, Note: "a Swarm plugin"},
	{Path: "secrets.*.driver_opts", Treat: refused, Note: "a Swarm plugin's"},
	{Path: "secrets.*.template_driver", Treat: refused, Note: "a Swarm plugin"},
	{Path: "secrets.*.labels", Treat: ignored, Note: "secrets are not listed by label"},
	{Path: "configs.*.template_driver", Treat: refused, Note: "a Swarm plugin"},
	{Path: "configs.*.labels", Treat: ignored, Note: "configs are not listed by label"},

	{Path: "services.*.cpu_count", Treat: refused, Note: "Windows only"},
	{Path: "services.*.cpu_percent", Treat: refused, Note: "Windows only"},
	{Path: "services.*.isolation", Treat: refused, Note: "Windows only, but for \"default\""},
	{Path: "services.*.credential_spec", Treat: warned, Note: "exists on Windows only"},
	{Path: "services.*.gpus", Treat: warned, Note: "no GPU is given to the container yet; name the device nodes under devices"},
	{Path: "services.*.models", Treat: warned, Note: "models are not served yet"},
	{Path: "services.*.runtime", Treat: warned, Note: "davit is the runtime; another one is not called", Only: []string{"!runc", "crun", ""}},
	{Path: "services.*.use_api_socket", Treat: warned, Note: "there is no engine socket to hand to the container", Only: []string{"!false"}},
	{Path: "services.*.ports.[].mode", Treat: ignored, Note: "host and ingress are the same on one host"},
	{Path: "services.*.ports.[].name", Treat: ignored, Note: "documentation"},
	{Path: "services.*.ports.[].app_protocol", Treat: ignored, Note: "documentation"},
	{Path: "services.*.volumes.[].consistency", Treat: ignored, Note: "a hint for Docker Desktop"},

	{Path: "services.*.pre_start.[].cpu_count", Treat: refused, Note: "Windows only"},
	{Path: "services.*.pre_start.[].cpu_percent", Treat: refused, Note: "Windows only"},
	{Path: "services.*.pre_start.[].isolation", Treat: refused, Note: "Windows only, but for \"default\""},
	{Path: "services.*.pre_start.[].credential_spec", Treat: warned, Note: "exists on Windows only"},
	{Path: "services.*.pre_start.[].gpus", Treat: warned, Note: "no GPU is given to the container yet; name the device nodes under devices"},
	{Path: "services.*.pre_start.[].models", Treat: warned, Note: "models are not served yet"},
	{Path: "services.*.pre_start.[].runtime", Treat: warned, Note: "davit is the runtime; another one is not called", Only: []string{"!runc", "crun", ""}},
	{Path: "services.*.pre_start.[].use_api_socket", Treat: warned, Note: "there is no engine socket to hand to the container", Only: []string{"!false"}},
	{Path: "services.*.pre_start.[].volumes.[].consistency", Treat: ignored, Note: "a hint for Docker Desktop"},

	{Path: "services.*.build.isolation", Treat: warned, Note: "exists on Windows only"},
	{Path: "services.*.build.provenance", Treat: warned, Note: "no attestation is made", Only: []string{"!false"}},
	{Path: "services.*.build.sbom", Treat: warned, Note: "no attestation is made", Only: []string{"!false"}},

	{Path: "services.*.deploy.mode", Treat: warned, Note: "there is one host; the service is replicated", Only: []string{"!replicated", ""}},
	{Path: "services.*.deploy.endpoint_mode", Treat: warned, Note: "names resolve to every replica's address", Only: []string{"!dnsrr", ""}},
	{Path: "services.*.deploy.labels", Treat: warned, Note: "these are the labels of a Swarm service; for containers use labels"},
	{Path: "services.*.deploy.placement", Treat: warned, Note: "there is one host"},
	{Path: "services.*.deploy.update_config", Treat: warned, Note: "replicas are replaced at once, not rolled over, yet"},
	{Path: "services.*.deploy.rollback_config", Treat: warned, Note: "replicas are replaced at once, not rolled back, yet"},
	{Path: "services.*.deploy.resources.reservations.cpus", Treat: warned, Note: "CPUs are limited, not reserved; cpu_shares gives weight"},
	{Path: "services.*.deploy.resources.reservations.devices", Treat: warned, Note: "no GPU is given to the container yet; name the device nodes under devices"},
	{Path: "services.*.deploy.resources.reservations.generic_resources", Treat: warned, Note: "these are a Swarm node's"},
}

// serviceKeys are the attributes of a service that davit acts on as a whole,
// but for the rows above.
var serviceKeys = []string{
	"annotations", "attach", "blkio_config", "build", "cap_add", "cap_drop", "cgroup", "cgroup_parent", "command",
	"configs", "container_name", "cpu_period", "cpu_quota", "cpu_rt_period", "cpu_rt_runtime", "cpu_shares", "cpus",
	"cpuset", "depends_on", "deploy", "develop", "device_cgroup_rules", "devices", "dns", "dns_opt", "dns_search",
	"domainname", "entrypoint", "env_file", "environment", "expose", "extends", "external_links", "extra_hosts",
	"group_add", "healthcheck", "hostname", "image", "init", "ipc", "label_file", "labels", "links", "logging",
	"mac_address", "mem_limit", "mem_reservation", "mem_swappiness", "memswap_limit", "network_mode", "networks",
	"oom_kill_disable", "oom_score_adj", "pid", "pids_limit", "platform", "ports", "post_start", "pre_start", "pre_stop",
	"privileged", "profiles", "provider", "pull_policy", "pull_refresh_after", "read_only", "restart", "scale", "secrets", "security_opt", "shm_size",
	"stdin_open", "stop_grace_period", "stop_signal", "storage_opt", "sysctls", "tmpfs", "tty", "ulimits", "umask", "user",
	"userns_mode", "uts", "volumes", "volumes_from", "working_dir",
}
