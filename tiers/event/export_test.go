package event

// DecodeReport is decodeReport.
var DecodeReport = decodeReport
