package relay

// HandshakeBytes is the counter's parser.
var HandshakeBytes = handshakeBytes
