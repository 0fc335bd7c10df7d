//go:build tools

// Package programs names what `make e2e-kubernetes` builds of Argo Rollouts. The replacements in go.mod are its own.
package programs

import (
	_ "github.com/argoproj/argo-rollouts/cmd/rollouts-controller"
)
