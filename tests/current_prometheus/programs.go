//go:build tools

// Package programs names what `make e2e-current` builds.
package programs

import (
	_ "github.com/prometheus/prometheus/cmd/prometheus"
)
