package track

import (
	"fmt"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// KindBoard is the document kind of boards and the name of their index.
const KindBoard = "board"

// boardNameBytesMax bounds a board's name.
const boardNameBytesMax = 512

// Board (板块) is a domain of governance.
type Board struct {
	Code string `json:"code"`
	Name string `json:"name"`
	// Tier is the highest tier whose tracks may stand under it; zero is the city.
	Tier tiers.Tier `json:"tier,omitzero"`
}

// BoardOps returns the operations that write a board. The error wraps
// [ErrInvalid].
func BoardOps(b Board) ([]crdt.Op, error) {
	if err := checkCode("board", KindBoard, b.Code); err != nil {
		return nil, err
	}
	if tiers.Blank(b.Name) {
		return nil, fmt.Errorf("%w: name of board %s is empty", ErrInvalid, b.Code)
	}
	if err := checkText("name", b.Name, boardNameBytesMax); err != nil {
		return nil, err
	}
	if b.Tier == 0 {
		b.Tier = tiers.TierCity
	}
	if b.Tier > tiers.TierTownship {
		return nil, fmt.Errorf("%w: tier of board %s: want city, district or township", ErrInvalid, b.Code)
	}
	return crdt.FieldOps([2]string{"code", b.Code}, [2]string{FieldName, b.Name}, [2]string{"tier", b.Tier.String()}), nil
}

// BoardOf reads a board back from its view; a tier that is missing or unknown is
// the city's.
func BoardOf(v View) Board {
	b := Board{Code: v.ID.Name(), Name: v.Get(FieldName), Tier: tiers.TierCity}
	var t tiers.Tier
	if t.UnmarshalText([]byte(v.Get("tier"))) == nil {
		b.Tier = t
	}
	return b
}

// Holds reports whether a track in a catalog of a tier may stand under the board.
// The error wraps [ErrInvalid].
func (b Board) Holds(site tiers.SiteID, tier tiers.Tier) error {
	if tier < b.Tier {
		return fmt.Errorf("%w: board %s is of tier %s: a track of %s, a %s, stands under another one", ErrInvalid, b.Code, b.Tier, site, tier)
	}
	return nil
}

// DefaultBoards are the city's eight boards and the townships' four (GLOSSARY).
func DefaultBoards() []Board {
	c, t := tiers.TierCity, tiers.TierTownship
	return []Board{
		{"party", "党建统领", c}, {"economy", "经济发展", c}, {"facilities", "设施运行", c}, {"society", "社会治理", c},
		{"emergency", "应急动员", c}, {"civility", "文明创建", c}, {"ecology", "生态景观", c}, {"services", "生产生活服务", c},
		{"town-party", "党的建设", t}, {"town-economy", "经济发展", t}, {"town-services", "民生服务", t}, {"town-order", "平安法治", t},
	}
}
