package wire

import "fmt"

// Code says why a link closes; it travels in Bye and as QUIC's application
// error code.
type Code uint32

// The codes of version 1.
const (
	CodeOK         Code = 0 // nothing is wrong
	CodeProtocol   Code = 1 // a message that may not come here
	CodeVersion    Code = 2 // no common protocol version
	CodeFederation Code = 3 // another federation, or not who the certificate says
	CodeUnlinked   Code = 4 // neither above nor below in the topology
	CodeAudience   Code = 5 // a stream outside the audience
	CodeAuthorship Code = 6 // an author who may not write there
	CodeChain      Code = 7 // a gap, a fork or a malformed record
	CodeCheckpoint Code = 8 // records that do not hash to a signed checkpoint
	CodeStalled    Code = 9 // no progress
	CodeShutdown   Code = 10
	CodeSuperseded Code = 11 // a newer link to the same peer
	CodeNotLeader  Code = 12 // this node does not lead its site: dial another one
	CodeBusy       Code = 13 // too many wait: dial again later
	CodeRetired    Code = 14 // the topology has retired one of the two ends
	CodeMoved      Code = 15 // the peer has another parent now
)

var codeNames = [...]string{
	"ok", "protocol", "version", "federation", "unlinked", "audience", "authorship",
	"chain", "checkpoint", "stalled", "shutdown", "superseded", "not-leader", "busy", "retired", "moved",
}

// String returns the code's name, or code(N).
func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return fmt.Sprintf("code(%d)", uint32(c))
}
