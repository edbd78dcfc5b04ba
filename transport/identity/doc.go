// Package identity is who sites are to each other: a federation's certificate
// authority, the certificates of nodes, and the site keys that sign
// checkpoints.
//
// Layer 2 (part of transport): it imports tiers. A node's certificate carries
// one URI, spiffe://<federation>/site/<SiteID>/node/<n>, in the manner of
// SPIFFE; host names play no part. Everything here is safe for concurrent use.
package identity
