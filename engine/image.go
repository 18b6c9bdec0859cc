package engine

import "time"

// An Image is a stack of layers and the configuration of what runs on it.
type Image struct {
	ID       string      `json:"id"`    // sha256:… of the configuration as stored
	Names    []string    `json:"names"` // references that point at it, such as docker.io/library/redis:7
	Created  time.Time   `json:"created"`
	OS       string      `json:"os"`
	Arch     string      `json:"architecture"`
	Variant  string      `json:"variant,omitempty"`
	Author   string      `json:"author,omitempty"`
	Config   ImageConfig `json:"config"`
	Layers   []string    `json:"layers"` // layer ids, lowest first; one directory each
	DiffIDs  []string    `json:"diffIDs,omitempty"`
	History  []History   `json:"history,omitempty"`
	Size     int64       `json:"size"`             // bytes of all layers' files
	Digest   string      `json:"digest,omitempty"` // the manifest's, when it came from a registry
	Labels   Options     `json:"-"`
	ParentID string      `json:"parent,omitempty"`
}

// ImageConfig is the part of an image's configuration that a container
// inherits, in the names of the OCI image specification's config.
type ImageConfig struct {
	User         string              `json:"User,omitempty"`
	ExposedPorts map[string]struct{} `json:"ExposedPorts,omitempty"`
	Env          []string            `json:"Env,omitempty"`
	Entrypoint   []string            `json:"Entrypoint,omitempty"`
	Cmd          []string            `json:"Cmd,omitempty"`
	Volumes      map[string]struct{} `json:"Volumes,omitempty"`
	WorkingDir   string              `json:"WorkingDir,omitempty"`
	Labels       map[string]string   `json:"Labels,omitempty"`
	StopSignal   string              `json:"StopSignal,omitempty"`
	ArgsEscaped  bool                `json:"ArgsEscaped,omitempty"`
	Healthcheck  *ImageHealth        `json:"Healthcheck,omitempty"`
	Shell        []string            `json:"Shell,omitempty"`
	OnBuild      []string            `json:"OnBuild,omitempty"`
}

// ImageHealth is Docker's HEALTHCHECK in an image; durations in nanoseconds.
type ImageHealth struct {
	Test          []string      `json:"Test,omitempty"`
	Interval      time.Duration `json:"Interval,omitempty"`
	Timeout       time.Duration `json:"Timeout,omitempty"`
	StartPeriod   time.Duration `json:"StartPeriod,omitempty"`
	StartInterval time.Duration `json:"StartInterval,omitempty"`
	Retries       int           `json:"Retries,omitempty"`
}

// History is one instruction that made an image.
type History struct {
	Created    time.Time `json:"created,omitzero"`
	CreatedBy  string    `json:"created_by,omitempty"`
	Author     string    `json:"author,omitempty"`
	Comment    string    `json:"comment,omitempty"`
	EmptyLayer bool      `json:"empty_layer,omitempty"`
}
