package compose

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"github.com/compose-spec/compose-go/v2/types"
)

// serviceHash is the value of the config-hash label, as docker compose
// computes it: of the service's JSON, without what does not change its
// containers (build, pull policy, scale, dependencies, profiles).
func serviceHash(s types.ServiceConfig) (string, error) {
	s.Build = nil
	s.PullPolicy = ""
	s.Scale = nil
	if s.Deploy != nil {
		deploy := *s.Deploy
		deploy.Replicas = nil
		s.Deploy = &deploy
	}
	s.DependsOn = nil
	s.Profiles = nil
	data, err := json.Marshal(s)
	if err != nil {
		return "", err
	}
	return digest(data), nil
}

func volumeForHash(v types.VolumeConfig) types.VolumeConfig {
	if v.Driver == "" {
		v.Driver = "local"
	}
	return v
}

func hashOf(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return digest(data)
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
