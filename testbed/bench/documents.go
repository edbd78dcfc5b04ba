package bench

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/tiermesh/tiermesh/tiers/event"
)

// When the events of the link benchmarks were reported, in Unix milliseconds:
// event i of a filling fillBase+i, paced event i pacedBase+i. The observer
// knows an event by it.
const (
	fillBase  = int64(1_700_000_000_000)
	pacedBase = int64(1_720_000_000_000)
)

// documents makes the events of the link benchmarks, each from the seed and its
// number alone: about 600 bytes of JSON in twelve fields. Names, streets,
// shops, plates, telephone numbers and amounts are drawn or put together from
// lists; the text is four to seven sentences out of some hundred, with such words
// in them. So field names and phrases recur, as they do between real reports,
// and what tells one report from another does not.
type documents struct{ seed uint64 }

// report makes event i.
func (d documents) report(i int) event.Report {
	r := draw{rand.New(rand.NewPCG(d.seed, uint64(i)))} //nolint:gosec // test input, not a secret
	lat, lon := 28.2+float64(r.IntN(4_000_000))/1e6, 105.3+float64(r.IntN(4_900_000))/1e6
	grid := fmt.Sprintf("500%03d%03d%03d", 101+r.IntN(41), 1+r.IntN(52), 1+r.IntN(200))
	matter := r.of(matters)
	return event.Report{
		SourceKey: fmt.Sprintf("%08x%08x", r.Uint32(), r.Uint32()), Type: fmt.Sprintf("%02d%03d", 1+r.IntN(19), 1+r.IntN(60)),
		Title: r.of(streets) + r.of(places) + matter, Text: r.text(matter),
		Place: fmt.Sprintf("%s%s%d号%s", r.of(districts), r.of(streets)+r.of(roads), 1+r.IntN(900), r.of(places)),
		Lat:   &lat, Lon: &lon, Priority: 3 + r.IntN(2), Reporter: r.person(), Channel: r.of(channels), Grid: grid,
		ReportedAtMS: fillBase + int64(i),
	}
}

// paced makes event i of those that are written at a rate, of a priority, with
// a text of at least so many bytes.
func (d documents) paced(i, priority, textBytes int) event.Report {
	out := d.report(i)
	r := draw{rand.New(rand.NewPCG(^d.seed, uint64(i)))} //nolint:gosec // test input, not a secret
	for len(out.Text) < textBytes {
		out.Text += r.text(r.of(matters))
	}
	out.Priority, out.ReportedAtMS = priority, pacedBase+int64(i)
	return out
}

type draw struct{ *rand.Rand }

func (r draw) of(list []string) string { return list[r.IntN(len(list))] }

func (r draw) person() string {
	name := r.of(surnames) + r.of(given)
	if r.IntN(3) > 0 {
		name += r.of(given)
	}
	return name
}

// text is what happened, in a few sentences.
func (r draw) text(matter string) string {
	var b strings.Builder
	for range 3 + r.IntN(4) {
		switch r.IntN(6) {
		case 0:
			fmt.Fprintf(&b, "%s%d时%02d分%s反映%s%s。", r.of(days), r.IntN(24), r.IntN(60), r.person(), r.of(places), matter)
		case 1:
			fmt.Fprintf(&b, "%s约%d%s,%s。", r.of(subjects), 1+r.IntN(400), r.of(units), r.of(effects))
		case 2:
			fmt.Fprintf(&b, "%s%s,电话1%d%08d,住%d栋%d。", r.of(subjects), r.person(), 30+r.IntN(60), r.IntN(100_000_000), 1+r.IntN(60), 101+r.IntN(3200))
		case 3:
			fmt.Fprintf(&b, "车牌渝%c%05X停在%s%s,车主%s。", 'A'+rune(r.IntN(8)), r.IntN(1<<20), r.of(places), r.of(effects), r.person())
		case 4:
			fmt.Fprintf(&b, "%s%s%s称%s%s,%s。", r.of(given), r.of(given), r.of(shops), r.of(subjects), r.of(effects), r.of(requests))
		default:
			fmt.Fprintf(&b, "%s%s%d号%s%s%s旁%s%s。", r.of(streets), r.of(roads), 1+r.IntN(600), r.of(given), r.of(given), r.of(shops), r.of(subjects), r.of(effects))
		}
	}
	b.WriteString(r.of(requests) + "。")
	return b.String()
}

func words(s string) []string { return strings.Fields(s) }

// The lists; each element stands for one word of a report.
var (
	surnames  = words("王 李 张 刘 陈 杨 黄 赵 吴 周 徐 孙 马 朱 胡 郭 何 高 林 罗 郑 梁 谢 宋 唐 许 韩 冯 邓 曹 彭 曾 肖 田 董 袁 潘 于 蒋 蔡 余 杜 叶 程 苏 魏 吕 丁 任 沈 姚 卢 姜 崔 钟 谭 陆 汪 范 金 石 廖 贾 夏 韦 付 方 白 邹 孟 熊 秦 邱 江 尹 薛 闫 段 雷 侯 龙 史 陶 黎 贺 顾 毛 郝 龚 邵 万 钱 严 覃 武 戴 莫 孔 向 汤")
	given     = words("伟 芳 娜 敏 静 丽 强 磊 军 洋 勇 艳 杰 娟 涛 明 超 秀 霞 平 刚 桂 英 华 玉 兰 建 国 志 海 文 辉 红 梅 春 林 永 德 成 光 世 家 天 云 飞 宇 浩 欣 怡 佳 思 雨 晨 子 梓 涵 泽 俊 博 睿 诗 琪 雪 晓 东 南 川 渝 江 山 松 柏 鹏 龙 凤 莲 菊 燕 玲 珍 素 琼 淑 惠 仁 义 礼 信 忠 孝 福 禄 寿 喜 荣 贵 发 兴 旺 昌 盛")
	districts = words("万州区 黔江区 涪陵区 渝中区 大渡口区 沙坪坝区 九龙坡区 南岸区 北碚区 綦江区 大足区 渝北区 巴南区 长寿区 江津区 合川区 永川区 南川区 璧山区 铜梁区 潼南区 荣昌区 开州区 梁平区 武隆区 城口县 丰都县 垫江县 忠县 云阳县 奉节县 巫山县 巫溪县 石柱县 秀山县 酉阳县 彭水县 两江新区")
	streets   = words("高笋塘 白岩 北山 太白 五桥 牌楼 双河口 龙都 周家坝 沙河 钟鼓楼 百安坝 陈家坝 天城 熊家 高峰 龙沙 响水 武陵 瀼渡 甘宁 新田 解放碑 朝天门 上清寺 两路口 大溪沟 石油路 化龙桥 观音桥 华新街 五里店 石马河 大石坝 寸滩 鱼嘴 复盛 杨家坪 石坪桥 谢家湾 黄桷坪 中梁山 石桥铺 陈家桥 覃家岗 天星桥 磁器口 童家桥 歌乐山 井口 回龙坝 曾家 虎溪 西永 南坪 花园 弹子石 铜元局 龙门浩 海棠溪 涂山 黄桷垭 鸡冠石 峡口 迎龙 广阳 鱼洞 李家沱 花溪 界石 惠民 双凤桥 龙溪 回兴 悦来 人和 鸳鸯 天宫殿 翠云 大竹林 礼嘉 金山 康美")
	roads     = words("路 街 大道 支路 一路 二路 三路 正街 后街 巷 环路 滨江路 新村 横街 东路 西路 南路 北路 中路 下段 上段")
	places    = words("小区门口 农贸市场 公交站旁 幼儿园东侧 小学后门 医院急诊楼前 地下车库入口 人行天桥下 轻轨站二号口 加油站对面 三单元楼道 垃圾收集点 河堤步道 社区广场 菜市口 老年活动中心 物业办公室旁 隧道出口 立交桥匝道 高架桥墩处 建筑工地围挡外 施工路段 商场负一层 停车场出口 化粪池旁 变压器旁 公厕外 步行街中段 码头台阶 水库坝下 山坡挡墙 村委会门前 卫生室旁 养老院西侧 消防通道 中学操场外 网吧楼下 快递驿站 充电桩区 配电房前")
	matters   = words("井盖破损缺失 路面塌陷积水 路灯不亮 违规占道经营 夜间施工噪声 垃圾堆放未清运 树木倒伏 电线垂落 消防栓漏水 燃气异味 自来水爆管 污水外溢 电梯困人 外墙瓷砖脱落 违法搭建 车辆乱停放 共享单车堆积 道路护栏损坏 交通信号灯故障 广告牌松动 油烟扰民 犬只未牵绳 楼道堆物 电动车飞线充电 边坡滑塌 河道漂浮物 焚烧秸秆 拖欠工资纠纷 邻里纠纷 老人走失 儿童溺水隐患 高空抛物 公厕无人清扫 绿化带毁坏 停水未通知 停电投诉 网络诈骗线索 食品过期 无证行医 黑车揽客")
	subjects  = words("现场 路段 水面 坑洞 积水 裂缝 堆物 围挡 树枝 线缆 管道 墙体 摊位 车辆 人群 施工队 商户 住户 老人 学生 行人 车流 气味 噪声 污水 渣土 护栏 标牌 灯杆 井圈 台阶 挡墙 坡面 闸门 泵房 阀门 电表箱 电梯 门禁 监控")
	shops     = words("超市 药房 火锅店 小面馆 五金店 理发店 文具店 水果店 诊所 茶楼 网吧 修车行 幼儿园 宾馆 便利店 烧烤店 服装店 建材店 洗车场 快递站 培训班 棋牌室 粮油店 花店 眼镜店 照相馆 干洗店 面包房 家具城 手机店")
	units     = words("米 平方米 立方米 处 辆 人 户 棵 根 袋 个 桶 车 层 分贝 厘米 毫米")
	effects   = words("影响通行 已设警示 存在安全隐患 无人处理 反复出现 夜间更严重 有人受伤 已自行撤离 正在扩大 暂时稳定 居民意见大 多次投诉未果 物业称不归其管 已拍照上传 需专业设备 堵塞消防通道 雨后加剧 持续三天 持续一周以上 刚刚发生 已用锥桶隔离 异味刺鼻 水压不足 断电两小时 车辆绕行 商户拒不配合 双方情绪激动 无人员伤亡 一人轻伤 老人行走不便 学生上学必经 汛期临近 靠近燃气管线 下方有停车 积深及膝 已通知产权单位 责任不清 需多部门会商 请先行处置 现场有监控")
	requests  = words("请尽快派人处置 望当日回复 请联系物业核实 建议增设路灯 请城管到场 请应急部门研判 请供水公司抢修 请供电所检修 请交巡警疏导 请环卫清运 请街道协调 请社区上门 要求书面答复 请住建委鉴定 请消防检查 请市场监管局查处 请水利部门排险 请卫健委跟进 请教育部门知悉 请林业局清理 希望加强巡查 请恢复原状 请设置隔离栏 请更换井盖 请复核后办结 请回访群众 请安排夜间值守 请纳入整改台账")
	channels  = words("app 12345 grid camera sensor wechat hotline patrol")
	days      = words("今日 昨日 前日 周一 周二 周三 周四 周五 周六 周日 上周 凌晨")
)
