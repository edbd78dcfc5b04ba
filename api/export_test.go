package api

// ReportRequestOf, PlainRequest and PlainAnswer are the functions of their names.
var (
	PlainAnswer     = plainAnswer
	ReportRequestOf = reportRequest
	PlainRequest    = plainRequest
)
