package bench

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	testrun "github.com/tiermesh/tiermesh/testbed/run"
)

// cpuSeconds returns the processor time that this process has used.
func cpuSeconds() float64 { return testrun.ThisProcess().CPUSeconds }

// residentMB returns the process's resident memory, 0 where it cannot be read.
func residentMB() float64 { return float64(testrun.ThisProcess().RSSBytes) / (1 << 20) }

// dirBytes returns the size of the files in a directory.
func dirBytes(dir string) (total int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a compaction took it away under the walk
		}
		if err != nil || d.IsDir() {
			return err
		}
		if info, err := d.Info(); err == nil {
			total += info.Size()
		}
		return nil
	})
	return total, err
}

// procBytes is a file of a process's under /proc, empty where there is none.
func procBytes(pid int, name string) string {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), name))
	if err != nil {
		return ""
	}
	return string(b)
}

// peakMB returns the most resident memory that a process has had, 0 where that
// cannot be read.
func peakMB(pid int) float64 {
	_, after, ok := strings.Cut(procBytes(pid, "status"), "VmHWM:")
	if fields := strings.Fields(after); ok && len(fields) > 0 {
		kb, err := strconv.Atoi(fields[0])
		if err == nil {
			return float64(kb) / 1024
		}
	}
	return 0
}

// statFields are a process's fields of /proc/PID/stat from the third on, which
// is the state.
func statFields(pid int) []string {
	stat := procBytes(pid, "stat")
	return strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
}

// children returns the live children of this process.
func children() (pids []int) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if f := statFields(pid); len(f) > 1 && f[1] == strconv.Itoa(os.Getpid()) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// ticksPerSecond is the unit of the times in /proc/PID/stat, fixed by Linux.
const ticksPerSecond = 100

// treeCPUSeconds returns the processor time of this process and its children,
// live or ended.
func treeCPUSeconds() float64 {
	var u syscall.Rusage
	total := cpuSeconds()
	if err := syscall.Getrusage(syscall.RUSAGE_CHILDREN, &u); err == nil {
		total += float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
	}
	for _, pid := range children() {
		if f := statFields(pid); len(f) > 12 {
			user, _ := strconv.Atoi(f[11])
			system, _ := strconv.Atoi(f[12])
			total += float64(user+system) / ticksPerSecond
		}
	}
	return total
}

// freeBytes returns the room on a directory's file system.
func freeBytes(dir string) (uint64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return s.Bavail * uint64(s.Bsize), nil
}
