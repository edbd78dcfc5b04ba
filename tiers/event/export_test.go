package event

// DecodeReport is decodeReport, PlainReport plainReport.
var (
	DecodeReport = decodeReport
	PlainReport  = plainReport
)
