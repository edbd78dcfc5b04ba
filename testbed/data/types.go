package data

import "strings"

// TypeCode returns the event type code under which a type of service request
// is carried over: "nyc-" and the name in lower case with dashes.
func TypeCode(name string) string {
	var b strings.Builder
	b.WriteString("nyc")
	gap := true
	for _, c := range strings.ToLower(name) {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			if gap {
				b.WriteByte('-')
			}
			b.WriteRune(c)
			gap = false
			continue
		}
		gap = true
	}
	return b.String()
}

// categories maps words of a request's type to the category of public-order
// matters that it belongs to; the first that occurs decides.
var categories = []struct{ word, category string }{
	{"street light", "市政公用设施"}, {"heat", "市政公用设施"}, {"water", "市政公用设施"}, {"sewer", "市政公用设施"},
	{"sewage", "市政公用设施"}, {"plumbing", "市政公用设施"}, {"electric", "市政公用设施"},
	{"traffic", "交通设施"}, {"parking", "交通设施"}, {"driveway", "交通设施"}, {"street sign", "交通设施"},
	{"street condition", "交通设施"}, {"highway", "交通设施"}, {"bridge", "交通设施"}, {"sidewalk", "交通设施"},
	{"taxi", "交通设施"}, {"vehicle", "交通设施"}, {"curb", "交通设施"},
	{"tree", "园林绿化设施"}, {"construction", "施工管理"}, {"building", "施工管理"},
	{"noise", "街面秩序"}, {"panhandling", "街面秩序"}, {"encampment", "街面秩序"}, {"drug", "街面秩序"},
	{"police", "街面秩序"}, {"fireworks", "街面秩序"}, {"graffiti", "宣传广告"}, {"posting", "宣传广告"},
	{"dirty", "市容环境"}, {"dumping", "市容环境"}, {"sanitary", "市容环境"}, {"litter", "市容环境"},
	{"disposal", "市容环境"}, {"rodent", "市容环境"}, {"waste", "市容环境"}, {"air quality", "市容环境"},
}

// TypeCategory returns the category that a type of service request belongs to.
func TypeCategory(name string) string {
	name = strings.ToLower(name)
	for _, c := range categories {
		if strings.Contains(name, c.word) {
			return c.category
		}
	}
	return "其他事项"
}
