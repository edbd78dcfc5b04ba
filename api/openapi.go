package api

import _ "embed"

// openAPI describes the routes; a test holds it against them.
//
//go:embed openapi.json
var openAPI []byte
