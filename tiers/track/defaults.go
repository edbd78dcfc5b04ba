package track

// DefaultTracks are the 70 tracks that a city starts with, under its eight
// boards. How many there are is the real figure (GLOSSARY); those of the public
// reports come first on each board.
func DefaultTracks() []Track {
	t := func(board, code, name, owner string, days int) Track {
		return Track{Code: code, Board: board, Name: name, Owner: owner, DeadlineDays: days}
	}
	return []Track{
		t("party", "grassroots", "基层党建", "组织部", 30), t("party", "discipline", "清廉建设", "纪检监察机关", 30),
		t("party", "cadres", "干部管理", "组织部", 30), t("party", "talent", "人才服务", "组织部", 30),
		t("party", "united-front", "统战工作", "统战部", 30), t("party", "publicity", "宣传思想", "宣传部", 15),
		t("party", "oversight", "人大监督", "人大常委会办公厅", 30), t("party", "mass-groups", "群团工作", "总工会", 30),

		t("economy", "investment", "招商引资", "经济信息委员会", 60), t("economy", "enterprise", "企业服务", "经济信息委员会", 15),
		t("economy", "industry", "产业运行", "经济信息委员会", 30), t("economy", "projects", "重大项目", "发展改革委员会", 30),
		t("economy", "finance", "金融运行", "金融管理办公室", 30), t("economy", "commerce", "商贸消费", "商务委员会", 30),
		t("economy", "innovation", "科技创新", "科学技术局", 60), t("economy", "foreign-trade", "对外开放", "商务委员会", 30),
		t("economy", "fiscal", "财税运行", "财政局", 30),

		t("facilities", "water-supply", "供水保障", "水利局", 2), t("facilities", "gas", "燃气安全", "经济信息委员会", 1),
		t("facilities", "bridges", "桥隧运行", "城市管理局", 7), t("facilities", "drainage", "排水管网", "住房城乡建设委员会", 3),
		t("facilities", "power", "电力保障", "经济信息委员会", 1), t("facilities", "roads", "道路运行", "交通运输委员会", 3),
		t("facilities", "rail", "轨道运行", "交通运输委员会", 1), t("facilities", "telecom", "通信保障", "通信管理局", 2),
		t("facilities", "lighting", "城市照明", "城市管理局", 3), t("facilities", "buildings", "房屋安全", "住房城乡建设委员会", 7),

		t("society", "petitions", "信访化解", "信访办公室", 15), t("society", "public-order", "社会治安", "公安局", 1),
		t("society", "grid", "网格治理", "政法委员会", 3), t("society", "mediation", "矛盾调解", "司法局", 15),
		t("society", "traffic", "交通秩序", "公安局", 1), t("society", "drugs", "禁毒防控", "公安局", 7),
		t("society", "fraud", "反诈防控", "公安局", 1), t("society", "minors", "未成年人保护", "民政局", 7),
		t("society", "enforcement", "综合执法", "司法局", 7),

		t("emergency", "flood-control", "防汛抗旱", "应急管理局", 1),
		t("emergency", "fire", "消防救援", "消防救援总队", 1), t("emergency", "geohazard", "地质灾害", "规划自然资源局", 2),
		t("emergency", "forest-fire", "森林防火", "林业局", 1), t("emergency", "workplace", "安全生产", "应急管理局", 3),
		t("emergency", "chemicals", "危化品监管", "应急管理局", 1), t("emergency", "quake", "地震应急", "地震局", 1),
		t("emergency", "epidemics", "疫情应急", "卫生健康委员会", 1), t("emergency", "reserves", "应急物资", "粮食物资储备局", 2),

		t("civility", "volunteers", "志愿服务", "文明办公室", 15), t("civility", "civil-city", "文明城区", "文明办公室", 15),
		t("civility", "culture", "公共文化", "文化旅游委员会", 30), t("civility", "heritage", "文物保护", "文物局", 30),
		t("civility", "integrity", "诚信建设", "发展改革委员会", 30), t("civility", "customs", "移风易俗", "文明办公室", 30),
		t("civility", "campus", "文明校园", "教育委员会", 30),

		t("ecology", "air", "大气治理", "生态环境局", 7),
		t("ecology", "rivers", "河湖治理", "水利局", 7), t("ecology", "city-look", "市容环境", "城市管理局", 2),
		t("ecology", "waste", "垃圾治理", "城市管理局", 3), t("ecology", "noise", "噪声治理", "生态环境局", 3),
		t("ecology", "soil", "土壤治理", "生态环境局", 30), t("ecology", "parks", "园林绿化", "城市管理局", 7),
		t("ecology", "fishing", "长江禁渔", "农业农村委员会", 3), t("ecology", "villages", "和美乡村", "农业农村委员会", 30),

		t("services", "medical", "医疗服务", "卫生健康委员会", 7), t("services", "elderly", "养老服务", "民政局", 7),
		t("services", "education", "教育服务", "教育委员会", 7), t("services", "jobs", "就业服务", "人力社保局", 7),
		t("services", "social-security", "社会保障", "人力社保局", 7), t("services", "housing", "住房保障", "住房城乡建设委员会", 15),
		t("services", "food", "食品安全", "市场监督管理局", 2), t("services", "hotline", "民生热线", "政务服务管理办公室", 3),
		t("services", "tourism", "文旅服务", "文化旅游委员会", 7),
	}
}
