package project

// A Build says how a service's image is made.
type Build struct {
	Context            string // absolute directory, git or tarball URL
	Dockerfile         string
	DockerfileInline   string
	Entitlements       []string
	Args               map[string]*string
	Provenance         string
	SBOM               string
	SSH                []SSHKey
	Labels             map[string]string
	CacheFrom          []string
	CacheTo            []string
	NoCache            bool
	NoCacheFilter      []string
	AdditionalContexts map[string]string
	Pull               bool
	ExtraHosts         map[string][]string
	Isolation          string
	Network            string
	Target             string
	Secrets            []FileUse
	ShmSize            int64
	Tags               []string
	Ulimits            map[string]*Ulimit
	Platforms          []string
	Privileged         bool
}

// An SSHKey is an agent or key handed to a build.
type SSHKey struct{ ID, Path string }

// A Network is one top-level network.
type Network struct {
	Key        string // the project's own name for it
	Name       string // its name on the host
	Driver     string
	DriverOpts map[string]string
	Ipam       IPAM
	External   bool
	Internal   bool
	Attachable bool
	Labels     map[string]string
	EnableIPv4 *bool
	EnableIPv6 *bool
	Extensions map[string]any
	Hash       string // the config-hash label
}

// IPAM is a network's address plan.
type IPAM struct {
	Driver  string
	Config  []*Pool
	Options map[string]string
}

// A Pool is one subnet of a network.
type Pool struct {
	Subnet             string
	Gateway            string
	IPRange            string
	AuxiliaryAddresses map[string]string
}

// A Volume is one top-level volume.
type Volume struct {
	Key        string
	Name       string
	Driver     string
	DriverOpts map[string]string
	External   bool
	Labels     map[string]string
	Extensions map[string]any
	Hash       string
}

// A File is one top-level secret or config: content from a file, a variable,
// the compose file itself, or from outside.
type File struct {
	Key            string
	Name           string
	File           string
	Environment    string
	Content        string // inline, or the variable's value; never printed for a secret
	External       bool
	Labels         map[string]string
	Driver         string
	DriverOpts     map[string]string
	TemplateDriver string
}

// A Model is an AI model that services use.
type Model struct {
	Name         string
	Model        string
	ContextSize  int
	RuntimeFlags []string
}
