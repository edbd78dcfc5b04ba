package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/tiers/input"
	"github.com/tiermesh/tiermesh/tiers/instant"
)

// fileFlags say how a file of rows, and the times in it, are read.
type fileFlags struct {
	Format     string `json:"format,omitempty"`
	Encoding   string `json:"encoding,omitempty"`
	Delimiter  string `json:"delimiter,omitempty"`
	TimeFormat string `json:"time_format,omitempty"`
	TimeZone   string `json:"time_zone,omitempty"`
}

// add adds the flags to a command.
func (f *fileFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.Format, "format", "", "csv, json (an array, or objects) or ndjson; by the file's name when left out")
	f.addEncoding(cmd)
	flags.StringVar(&f.Delimiter, "delimiter", "", `what separates the columns of CSV: , ; | or \t; by the header when left out`)
	flags.StringVar(&f.TimeFormat, "time-format", "", `how times are written, such as "%m/%d/%Y %I:%M:%S %p"; or unix, unix_ms, unix_us`)
}

// addEncoding adds the flag of the encoding alone.
func (f *fileFlags) addEncoding(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.Encoding, "encoding", "", strings.Join(input.Encodings(), ", ")+"; UTF-8, or by the file's mark, when left out")
}

// open begins to read a file of a name. The error is one of the command line, or
// wraps [errInput].
func (f *fileFlags) open(in io.Reader, name string, good func(input.Row) bool) (*input.Reader, error) {
	o := input.Options{Format: f.Format, Encoding: f.Encoding, Good: good}
	if o.Format == "" {
		o.Format = input.FormatOf(name)
	}
	if f.Delimiter != "" {
		text := strings.NewReplacer(`\t`, "\t", "tab", "\t").Replace(f.Delimiter)
		if utf8.RuneCountInString(text) != 1 || strings.ContainsAny(text, "\"\r\n") {
			return nil, usagef("--delimiter %q: want one character, such as ; or \\t", f.Delimiter)
		}
		o.Delimiter, _ = utf8.DecodeRuneInString(text)
	}
	r, err := input.Open(in, o)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", errInput, name, err)
	}
	return r, nil
}

// times returns the reader of the file's times: in the zone of the command line, else
// of the profile, else of $TIERMESH_TZ. The error is one of the command line.
func (f *fileFlags) times(cmd *cobra.Command) (*instant.Parser, error) {
	if flag := cmd.Flag("time-zone"); flag.Changed || f.TimeZone == "" {
		f.TimeZone = flag.Value.String()
	}
	zone, err := zoneOf(f.TimeZone)
	if err != nil {
		return nil, err
	}
	p, err := instant.New(instant.Options{Format: f.TimeFormat, Zone: zone})
	if err != nil {
		return nil, usagef("--time-format: %v", err)
	}
	return p, nil
}
