package netns

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// Check says in one line what this machine lacks for a world, nil when nothing.
// It makes a namespace and removes it again. The error wraps [ErrMissing].
func Check() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("%w: network namespaces need root", ErrMissing)
	}
	for _, tool := range []struct{ name, from string }{{"ip", "iproute2"}, {"tc", "iproute2"}, {"nft", "nftables"}} {
		if _, err := exec.LookPath(tool.name); err != nil {
			return fmt.Errorf("%w: the command %s is missing (on Debian: apt-get install %s)", ErrMissing, tool.name, tool.from)
		}
	}
	probe := newPrefix() + "-probe"
	if err := tool("", "ip", "netns", "add", probe); err != nil {
		return fmt.Errorf("%w: no network namespace can be made: %w", ErrMissing, err)
	}
	err := tool(baseRules, inside(probe, "nft", "-f", "-")...)
	if err := errors.Join(err, tool("", "ip", "netns", "delete", probe)); err != nil {
		return fmt.Errorf("%w: nftables do not work in a namespace: %w", ErrMissing, err)
	}
	return nil
}

// newPrefix returns a prefix for namespaces that no other run has.
func newPrefix() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // it never fails
	return "tm" + hex.EncodeToString(b[:])
}

// inside returns a command line that runs another one in a namespace.
func inside(ns string, args ...string) []string {
	return append([]string{"ip", "netns", "exec", ns}, args...)
}

// tool runs a command with an input to its end. The error carries what it said, in
// one line.
func tool(input string, args ...string) error {
	_, err := output(input, args...)
	return err
}

// output is tool that returns what the command printed.
func output(input string, args ...string) (string, error) {
	cmd := exec.Command(args[0], args[1:]...) //nolint:gosec // ip, tc and nft with arguments made here
	cmd.Stdin = strings.NewReader(input)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		first, _, _ := strings.Cut(strings.TrimSpace(said.String()), "\n")
		return "", fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, first)
	}
	return out.String(), nil
}
