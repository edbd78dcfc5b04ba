package report

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// Write writes report.json to a folder, which it makes.
func Write(dir string, d *Data) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("report folder: %w", err)
	}
	b, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "report.json"), append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}
