package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers/event"
)

func newEventAttach(g *global) *cobra.Command {
	var r api.AttachRequest
	cmd := &cobra.Command{
		Use: "attach ID [FILE]", Short: "Attach a file to an event, or a reference to one that stands elsewhere", Args: cobra.RangeArgs(1, 2),
		Long: `Attaches a file of up to 64 MiB. It goes up in parts of 512 KiB behind everything
else; the event tells at once that it is there, how large it is and what its
SHA-256 is. An attachment is evidence: refer to it by the ID that is printed.
Attaching a file again sends nothing that is there.

With --url the file stands elsewhere; --sha256 says what it must be.`,
		Example: `  tiermesh event attach event:0190f1c2-… 现场.jpg --who 张三
  tiermesh event attach event:0190f1c2-… --url https://example.org/v.mp4 --sha256 9f86… --name v.mp4 --type video/mp4`,
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Key, r.Event = orNew(r.Key), eventID(args[0])
			a := &r.Attachment
			if (len(args) == 2) == (a.URL != "") {
				return usagef("want a file or --url, one of the two")
			}
			if a.URL != "" {
				if a.Name == "" {
					a.Name = filepath.Base(a.URL)
				}
				return g.client(cmd, func(ctx context.Context, c *api.Client) error { return g.attach(ctx, cmd, c, r) })
			}
			f, err := os.Open(args[1])
			if err != nil {
				return fmt.Errorf("%w: %w", errInput, err)
			}
			defer func() { _ = f.Close() }()
			if err := describe(f, a); err != nil {
				return fmt.Errorf("%w: %s: %w", errInput, args[1], err)
			}
			return g.transfer(cmd, func(ctx context.Context, c *api.Client, moved func()) error {
				if err := sendParts(ctx, c, f, *a, moved); err != nil {
					return err
				}
				return g.attach(ctx, cmd, c, r)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&r.Attachment.Name, "name", "", "its name; the file's when left out")
	f.StringVar(&r.Attachment.Type, "type", "", "its media type; found out when left out")
	f.StringVar(&r.Attachment.URL, "url", "", "where it stands, instead of a file")
	f.StringVar(&r.Attachment.SHA256, "sha256", "", "with --url: what it must be")
	f.Int64Var(&r.Attachment.Bytes, "bytes", 0, "with --url: how large it is")
	f.StringVar(&r.Who, "who", "", "the person who attaches it")
	f.StringVar(&r.Key, "key", "", "idempotency key; made up when left out")
	return cmd
}

func (g *global) attach(ctx context.Context, cmd *cobra.Command, c *api.Client, r api.AttachRequest) error {
	out, err := c.Attach(ctx, r)
	if err != nil {
		return err
	}
	if g.output == "json" {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(out)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s  %s  %s  %s\n", event.AttachmentID(r.Attachment.SHA256), r.Attachment.Name, count(r.Attachment.Bytes, "byte"), r.Attachment.Type)
	return err
}

// describe reads a file once, part by part, and says what it is.
func describe(f *os.File, a *event.Attachment) error {
	whole := sha256.New()
	err := eachPart(f, func(part []byte) error {
		if a.Bytes += int64(len(part)); a.Bytes > event.AttachmentBytesMax {
			return fmt.Errorf("more than %d bytes", event.AttachmentBytesMax)
		}
		if len(a.Parts) == 0 && a.Type == "" {
			if a.Type = mime.TypeByExtension(filepath.Ext(f.Name())); a.Type == "" {
				a.Type = http.DetectContentType(part)
			}
		}
		_, _ = whole.Write(part)
		a.Parts = append(a.Parts, event.BlobID(part).Name())
		return nil
	})
	if err == nil && a.Bytes == 0 {
		err = errors.New("it is empty")
	}
	a.SHA256 = hex.EncodeToString(whole.Sum(nil))
	if a.Name == "" {
		a.Name = filepath.Base(f.Name())
	}
	return err
}

// sendParts reads the file again and sends its parts.
func sendParts(ctx context.Context, c *api.Client, f *os.File, a event.Attachment, moved func()) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("%w: %w", errInput, err)
	}
	sent := 0
	err := eachPart(f, func(part []byte) error {
		if sent == len(a.Parts) || event.BlobID(part).Name() != a.Parts[sent] {
			return fmt.Errorf("%w: %s changed while it was read", errInput, f.Name())
		}
		sent++
		_, err := c.PutBlob(ctx, part)
		moved()
		return err
	})
	return err
}

// eachPart calls f with the parts of what is read.
func eachPart(in io.Reader, f func(part []byte) error) error {
	buf := make([]byte, event.PartBytes)
	for {
		n, err := io.ReadFull(in, buf)
		if n > 0 {
			if err := f(buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func newAttachment(g *global) *cobra.Command {
	parent := &cobra.Command{
		Use: "attachment", Short: "List and get what is attached to an event",
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	list := &cobra.Command{
		Use: "list ID", Short: "List what is attached to an event, and how much of it is here", Args: exactArgs(1),
		Example: "  tiermesh event attachment list event:0190f1c2-…",
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				out, err := c.Attachments(ctx, eventID(args[0]))
				if err != nil {
					return err
				}
				if g.output == "json" {
					return json.NewEncoder(cmd.OutOrStdout()).Encode(out)
				}
				var rows [][]string
				for _, a := range out.Attachments {
					rows = append(rows, []string{a.ID, a.Name, a.Type, fmt.Sprint(a.Bytes), here(a)})
				}
				return table(cmd.OutOrStdout(), []string{"ID", "NAME", "TYPE", "BYTES", "HERE"}, rows)
			})
		},
	}
	parent.AddCommand(list, newAttachmentGet(g))
	return parent
}

// here says how much of an attachment a site has.
func here(a api.AttachmentState) string {
	text := fmt.Sprintf("%d of %s are here", a.PartsHere, count(len(a.Parts), "part"))
	switch {
	case a.URL != "":
		return "at " + a.URL
	case a.PartsHere == len(a.Parts):
		return "all of it"
	case a.Comes:
		return text + "; the rest comes from site " + string(a.Site)
	default:
		return text + "; ask site " + string(a.Site) + " or one above it"
	}
}

func newAttachmentGet(g *global) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use: "get ID NAME", Short: "Write an attachment to a file, after its SHA-256 was checked", Args: exactArgs(2),
		Long:    "NAME is an attachment's name, or its ID. The file is written only when all of it\nis here and is what the event says.",
		Example: "  tiermesh event attachment get event:0190f1c2-… 现场.jpg -o photo.jpg",
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.transfer(cmd, func(ctx context.Context, c *api.Client, moved func()) error {
				list, err := c.Attachments(ctx, eventID(args[0]))
				if err != nil {
					return err
				}
				var a api.AttachmentState
				for _, x := range list.Attachments {
					if x.Name == args[1] || x.ID == args[1] {
						a = x // the last one of a name
					}
				}
				switch {
				case a.ID == "":
					return fmt.Errorf("%w: %s has no attachment %q", api.ErrNotFound, args[0], args[1])
				case a.URL != "":
					return fmt.Errorf("%w: it stands at %s; its SHA-256 must be %s", api.ErrNotFound, a.URL, a.SHA256)
				case a.PartsHere < len(a.Parts):
					return fmt.Errorf("%w: %s", api.ErrNotFound, here(a))
				}
				if out == "" {
					out = a.Name
				}
				return writeAttachment(ctx, c, a.Attachment, out, moved)
			})
		},
	}
	// The output format is of no use here, and -o is what people type.
	cmd.Flags().StringVarP(&out, "output", "o", "", "file to write; its name when left out")
	return cmd
}

// writeAttachment writes a file beside its place, checks it, and puts it there.
func writeAttachment(ctx context.Context, c *api.Client, a event.Attachment, path string, moved func()) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".attachment-*")
	if err != nil {
		return fmt.Errorf("%w: %w", errInput, err)
	}
	defer func() { _ = os.Remove(f.Name()) }()
	whole := sha256.New()
	for _, p := range a.Parts {
		b, err := c.Blob(ctx, p)
		if err == nil {
			_, err = io.MultiWriter(f, whole).Write(b)
		}
		if err != nil {
			return errors.Join(err, f.Close())
		}
		moved()
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("%w: %w", errInput, err)
	}
	if sum := hex.EncodeToString(whole.Sum(nil)); sum != a.SHA256 {
		return fmt.Errorf("%w: its SHA-256 is %s, the event says %s", errInput, sum, a.SHA256)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("%w: %w", errInput, err)
	}
	return nil
}
