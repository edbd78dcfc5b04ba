package track

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/tiermesh/tiermesh/crdt"
)

// ErrInvalid reports a track or edit that breaks a rule; the text names the
// field and what is allowed.
var ErrInvalid = errors.New("track: invalid")

// Kind is the document kind of tracks and the name of their index.
const Kind = "track"

// fieldBytesMax bounds a field's value.
const fieldBytesMax = 4096

// Track is a business line under a board.
type Track struct {
	Code, Board, Name string
	// Owner is the organ that leads; Target what it is held to.
	Owner, Target, Description string
	// Origin is the code of the track that this one adopted, if any.
	Origin string
	// DeadlineDays is the default time limit of its tasks; 0 for none.
	DeadlineDays int
}

// Ops returns the operations that write a track. The error wraps [ErrInvalid].
func Ops(t Track) ([]crdt.Op, error) {
	if t.Code == "" || t.Board == "" || t.Name == "" {
		return nil, fmt.Errorf("%w: code %q, board %q and name %q must be given", ErrInvalid, t.Code, t.Board, t.Name)
	}
	fields := [][2]string{
		{"code", t.Code}, {"board", t.Board}, {"name", t.Name}, {"owner", t.Owner},
		{"target", t.Target}, {"description", t.Description}, {"origin", t.Origin},
	}
	if t.DeadlineDays != 0 {
		fields = append(fields, [2]string{"deadline_days", strconv.Itoa(t.DeadlineDays)})
	}
	for _, f := range fields {
		if err := check(f[0], f[1]); err != nil {
			return nil, err
		}
	}
	return crdt.FieldOps(fields...), nil
}

// editable are the fields that an edit may set.
var editable = []string{"deadline_days", "description", "name", "owner", "target"}

// EditOps returns the operations that set fields of a track, in field order.
// The error wraps [ErrInvalid].
func EditOps(fields map[string]string) ([]crdt.Op, error) {
	if len(fields) == 0 {
		return nil, fmt.Errorf("%w: no field to set: want some of %v", ErrInvalid, editable)
	}
	var ops []crdt.Op
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if !slices.Contains(editable, name) {
			return nil, fmt.Errorf("%w: field %q cannot be set: want one of %v", ErrInvalid, name, editable)
		}
		if err := check(name, fields[name]); err != nil {
			return nil, err
		}
		ops = append(ops, crdt.Op{Kind: crdt.OpPut, Key: name, Value: fields[name]})
	}
	return ops, nil
}

func check(name, value string) error {
	if len(value) > fieldBytesMax || !utf8.ValidString(value) {
		return fmt.Errorf("%w: %s: want UTF-8 of at most %d bytes, got %d", ErrInvalid, name, fieldBytesMax, len(value))
	}
	if days, err := strconv.Atoi(value); name == "deadline_days" && (err != nil || days < 0 || days > 3650) {
		return fmt.Errorf("%w: deadline_days %q: want 0 to 3650", ErrInvalid, value)
	}
	return nil
}

// Fold derives a track's view.
func Fold(s *crdt.Source) (crdt.View, error) { return s.FieldView() }

// DefaultTracks are the tracks that a city starts with, under its eight boards.
func DefaultTracks() []Track {
	t := func(board, code, name, owner string, days int) Track {
		return Track{Code: code, Board: board, Name: name, Owner: owner, DeadlineDays: days}
	}
	return []Track{
		t("party", "grassroots", "基层党建", "组织部", 30), t("party", "discipline", "清廉建设", "纪检监察机关", 30),
		t("economy", "investment", "招商引资", "经济信息委员会", 60), t("economy", "enterprise", "企业服务", "经济信息委员会", 15),
		t("facilities", "water-supply", "供水保障", "水利局", 2), t("facilities", "gas", "燃气安全", "经济信息委员会", 1),
		t("facilities", "bridges", "桥隧运行", "城市管理局", 7), t("facilities", "drainage", "排水管网", "住房城乡建设委员会", 3),
		t("society", "petitions", "信访化解", "信访办公室", 15), t("society", "public-order", "社会治安", "公安局", 1),
		t("society", "grid", "网格治理", "政法委员会", 3), t("emergency", "flood-control", "防汛抗旱", "应急管理局", 1),
		t("emergency", "fire", "消防救援", "消防救援总队", 1), t("emergency", "geohazard", "地质灾害", "规划自然资源局", 2),
		t("civility", "volunteers", "志愿服务", "文明办公室", 15), t("ecology", "air", "大气治理", "生态环境局", 7),
		t("ecology", "rivers", "河湖治理", "水利局", 7), t("ecology", "city-look", "市容环境", "城市管理局", 2),
		t("services", "medical", "医疗服务", "卫生健康委员会", 7), t("services", "elderly", "养老服务", "民政局", 7),
	}
}
