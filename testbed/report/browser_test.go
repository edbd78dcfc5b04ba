package report_test

import (
	"context"
	"encoding/json"
	"html"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// look is what a browser finds on a page.
type look struct {
	// Overflow is by how many pixels the page is wider than the window.
	Overflow int        `json:"overflow"`
	Plots    []plotLook `json:"plots"`
	// Tables counts rows that have a height.
	Rows int `json:"rows"`
}

// plotLook is one figure's plot, as far as it is visible.
type plotLook struct {
	ID     string  `json:"id"`
	Width  float64 `json:"width"`
	Height float64 `json:"height"`
	// Shapes are those with a size and a colour, Texts those with a width.
	Shapes int `json:"shapes"`
	Texts  int `json:"texts"`
	// Outside are texts that stick out of the plot, Small those below 9 pixels.
	Outside []string `json:"outside"`
	Small   int      `json:"small"`
}

// lookScript measures the page once it is there and leaves what it found in it.
const lookScript = `<script>
const out = {overflow: document.documentElement.scrollWidth - window.innerWidth, plots: [], rows: 0};
for (const r of document.querySelectorAll("tr")) if (r.getBoundingClientRect().height > 0) out.rows++;
for (const f of document.querySelectorAll("figure")) for (const s of f.querySelectorAll(".plot svg")) {
  const box = s.getBoundingClientRect();
  if (box.width === 0) continue;
  const p = {id: f.id, width: box.width, height: box.height, shapes: 0, texts: 0, outside: [], small: 0};
  for (const x of s.querySelectorAll("path, rect, circle")) {
    const b = x.getBBox(), c = getComputedStyle(x);
    const painted = v => v !== "none" && v !== "rgb(0, 0, 0)";
    if ((b.width > 0 || b.height > 0) && (painted(c.fill) || painted(c.stroke))) p.shapes++;
  }
  for (const x of s.querySelectorAll("text")) {
    const b = x.getBoundingClientRect();
    if (b.width > 0 && x.textContent.trim()) p.texts++;
    if (b.left < box.left - 1 || b.right > box.right + 1 || b.top < box.top - 1 || b.bottom > box.bottom + 1) p.outside.push(x.textContent);
    if (b.height < 9) p.small++;
  }
  out.plots.push(p);
}
const found = document.createElement("pre");
found.id = "found";
found.textContent = JSON.stringify(out);
document.body.append(found);
</script>`

var foundPattern = regexp.MustCompile(`(?s)<pre id="found">(.*?)</pre>`)

// browse opens a page in a window of a width and returns what it looks like.
func browse(t *testing.T, browser, page, width string) (l look) {
	t.Helper()
	dir, err := os.MkdirTemp("", "report")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // the browser may still write to its profile
	file := filepath.Join(dir, "page.html")
	if err := os.WriteFile(file, []byte(strings.Replace(page, "</body>", lookScript+"</body>", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--user-data-dir="+dir,
		"--window-size="+width+",900", "--dump-dom", "file://"+file)
	cmd.WaitDelay = 5 * time.Second
	dom, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", browser, err)
	}
	m := foundPattern.FindSubmatch(dom)
	if m == nil {
		t.Fatalf("%s did not run the script: %d bytes", browser, len(dom))
	}
	if err := json.Unmarshal([]byte(html.UnescapeString(string(m[1]))), &l); err != nil {
		t.Fatal(err)
	}
	return l
}

// faults lists what is wrong with how a page looks.
func (l look) faults() (out []string) {
	if l.Overflow > 0 {
		out = append(out, "the page is wider than the window")
	}
	if l.Rows < 40 {
		out = append(out, "rows are missing")
	}
	seen := map[string]bool{}
	for _, p := range l.Plots {
		seen[p.ID] = true
		if p.Width < 300 || p.Height < 120 || p.Shapes < 3 || p.Texts < 4 {
			out = append(out, p.ID+" is not drawn")
		}
		if p.Small > 0 {
			out = append(out, p.ID+" has texts that are too small")
		}
		for _, text := range p.Outside {
			out = append(out, p.ID+": a text sticks out: "+text)
		}
	}
	for _, id := range []string{"timeline", "backlog", "links", "bytes", "convergence"} {
		if !seen[id] {
			out = append(out, id+" is missing")
		}
	}
	if len(l.Plots) != len(seen) {
		out = append(out, "a plot shows twice")
	}
	return out
}

// TestBrowser: in a browser, in any width, each plot has shapes and labels that
// can be seen, also of a thousand sites and hundreds of faults.
func TestBrowser(t *testing.T) {
	var browser string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			browser = path
			break
		}
	}
	if browser == "" {
		t.Skip("no chromium here: apt-get install chromium")
	}
	few, _ := write(t, city(1031, 12))
	many, _ := write(t, city(1031, 700))
	for name, page := range map[string]string{"few faults": few, "many faults": many} {
		for _, width := range []string{"1280", "700", "400"} {
			l := browse(t, browser, page, width)
			if bad := l.faults(); len(bad) > 0 {
				t.Errorf("%s, %s pixels: %s\n%+v", name, width, strings.Join(bad, "; "), l)
			}
		}
	}
	// And the check can fail.
	empty := regexp.MustCompile(`(?s)(id="links".*?)<path .*?(</svg>)`).ReplaceAllString(few, "$1$2")
	if bad := browse(t, browser, empty, "1280").faults(); len(bad) != 1 || bad[0] != "links is not drawn" {
		t.Errorf("a plot without shapes: %v", bad)
	}
	undone := city(20, 3)
	undone.Samples = nil
	page, _ := write(t, undone)
	if bad := browse(t, browser, page, "1280").faults(); len(bad) != 3 {
		t.Errorf("no samples: %v", bad)
	}
}
