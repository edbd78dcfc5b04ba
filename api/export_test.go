package api

// Encode, ReportRequestOf, PlainRequest, PlainAnswer and FeedMessageOf are the functions of their names.
var (
	Encode          = encodeRequest
	PlainAnswer     = plainAnswer
	FeedMessageOf   = feedMessage
	ReportRequestOf = reportRequest
	PlainRequest    = plainRequest
)
