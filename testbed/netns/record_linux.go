package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Where worlds are recorded, and where ip keeps namespaces.
const (
	recordDir    = "/run/tiermesh-netns"
	namespaceDir = "/run/netns"
)

// record is a world's file in recordDir: its name is the prefix of the world's
// namespaces, its text the world's directory, and whoever holds its lock is the
// world.
type record struct {
	prefix string
	file   *os.File
}

// newRecord records a world.
func newRecord(dir string) (*record, error) {
	if err := os.MkdirAll(recordDir, 0o700); err != nil {
		return nil, fmt.Errorf("record world: %w", err)
	}
	for {
		r := &record{prefix: newPrefix()}
		path := filepath.Join(recordDir, r.prefix)
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
		if err != nil {
			return nil, fmt.Errorf("record world: %w", err)
		}
		r.file = f
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if err == nil {
			_, err = f.WriteString(dir)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("record world: %w", err), r.remove())
		}
		// Somebody who cleans up may have been faster with the lock.
		if _, err := os.Stat(path); err == nil {
			return r, nil
		}
		_ = f.Close()
	}
}

// remove ends the record; what it stands for is gone.
func (r *record) remove() error {
	return errors.Join(os.Remove(filepath.Join(recordDir, r.prefix)), r.file.Close())
}

// sweepDead removes what worlds left whose process is gone.
func sweepDead() error {
	files, err := os.ReadDir(recordDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, entry := range files {
		err = errors.Join(err, sweepIfDead(entry.Name()))
	}
	if err != nil {
		return fmt.Errorf("remove what an earlier run left: %w", err)
	}
	return nil
}

func sweepIfDead(prefix string) error {
	f, err := os.Open(filepath.Join(recordDir, prefix))
	if errors.Is(err, os.ErrNotExist) {
		return nil // it ended meanwhile
	}
	if err != nil {
		return err
	}
	r := &record{prefix: prefix, file: f}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return f.Close() // it lives
	}
	dir, err := os.ReadFile(f.Name())
	if err == nil {
		err = sweep(prefix, string(dir))
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	return r.remove()
}

// sweep removes the processes, namespaces and mounts of one world.
func sweep(prefix, dir string) error {
	entries, err := os.ReadDir(namespaceDir)
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix+"-") {
			err = errors.Join(err, empty(e.Name()), tool("", "ip", "netns", "delete", e.Name()))
		}
	}
	return errors.Join(err, unmount(dir))
}

// How long processes may take to end by themselves (engines do when their node is
// gone), and when they are killed.
const (
	endPoll = 10 * time.Millisecond
	endWait = 2 * time.Second
	killMax = 10 * time.Second
)

// empty waits until no process is in a namespace, and kills those that stay. Only
// what this package started, and their children, can be in it.
func empty(ns string) error {
	for waited := time.Duration(0); ; waited += endPoll {
		out, err := output("", "ip", "netns", "pids", ns)
		pids := strings.Fields(out)
		switch {
		case err != nil || len(pids) == 0:
			return err
		case waited > killMax:
			return fmt.Errorf("processes %s in %s do not end", strings.Join(pids, " "), ns)
		case waited > endWait:
			for _, text := range pids {
				if pid, err := strconv.Atoi(text); err == nil {
					_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
				}
			}
		}
		time.Sleep(endPoll)
	}
}

// mountSource names the file systems that this package mounts.
const mountSource = "tiermesh-testbed"

// unmount takes away this package's file systems under a directory.
func unmount(dir string) error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || dir == "" {
		return err
	}
	var points []string
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		if len(f) > 4 && slices.Contains(f, mountSource) && strings.HasPrefix(unescape(f[4]), dir+"/") {
			points = append(points, unescape(f[4]))
		}
	}
	slices.Reverse(points)
	for _, p := range points {
		if e := syscall.Unmount(p, 0); e != nil {
			e = syscall.Unmount(p, syscall.MNT_DETACH)
			err = errors.Join(err, e)
		}
	}
	if err != nil {
		return fmt.Errorf("unmount below %s: %w", dir, err)
	}
	return nil
}

// unescape undoes how mountinfo writes blanks, tabs, line ends and backslashes.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
