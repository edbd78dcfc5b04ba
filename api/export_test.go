package api

// ReportRequestOf and PlainRequest are reportRequest and plainRequest.
var (
	ReportRequestOf = reportRequest
	PlainRequest    = plainRequest
)
