package api

// ReportRequestOf, PlainRequest, PlainAnswer and FeedMessageOf are the functions of their names.
var (
	PlainAnswer     = plainAnswer
	FeedMessageOf   = feedMessage
	ReportRequestOf = reportRequest
	PlainRequest    = plainRequest
)
