package sim_test

import (
	"testing/synctest"
	"time"
)

// pass lets virtual time pass, and what is due then be done.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
