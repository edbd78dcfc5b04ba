package engine_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestBuildWithoutCgo: who has no C compiler, or has cgo off, is told so, and
// nothing else.
func TestBuildWithoutCgo(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "go", "build", ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatal("it was built without the engine's library")
	}
	said := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(said) != 2 || !strings.HasSuffix(said[1], "undefined: tiermesh_needs_cgo__install_gcc_and_set_CGO_ENABLED_1") {
		t.Errorf("the compiler says:\n%s", out)
	}
}
