"""Texts of many kinds, for what is said of token estimates. Words by people long dead, of the
Universal Declaration of Human Rights, of what is in the public domain (PEP 8, a law), or made up.
"""
# ruff: noqa: E501, RUF001 - other scripts, and lines as they were written

import json

NOVEL = """\
To Sherlock Holmes she is always THE woman. I have seldom heard
him mention her under any other name. In his eyes she eclipses
and predominates the whole of her sex. It was not that he felt
any emotion akin to love for Irene Adler. All emotions, and that
one particularly, were abhorrent to his cold, precise but
admirably balanced mind. He was, I take it, the most perfect
reasoning and observing machine that the world has seen, but as a
lover he would have placed himself in a false position. He never
spoke of the softer passions, save with a gibe and a sneer. They
were admirable things for the observer--excellent for drawing the
veil from men's motives and actions. But for the trained reasoner
to admit such intrusions into his own delicate and finely
adjusted temperament was to introduce a distracting factor which
might throw a doubt upon all his mental results. Grit in a
sensitive instrument, or a crack in one of his own high-power
lenses, would not be more disturbing than a strong emotion in a
nature such as his. And yet there was but one woman to him, and
that woman was the late Irene Adler, of dubious and questionable
memory.

I had seen little of Holmes lately. My marriage had drifted us
away from each other. My own complete happiness, and the
home-centred interests which rise up around the man who first
finds himself master of his own establishment, were sufficient to
absorb all my attention, while Holmes, who loathed every form of
"""

CONTRACT = """\
7.2 Limitation of Liability. EXCEPT FOR BREACHES OF SECTION 5 (CONFIDENTIALITY) AND THE PARTIES' OBLIGATIONS UNDER SECTION 6, IN NO EVENT SHALL EITHER PARTY BE LIABLE FOR ANY INDIRECT, INCIDENTAL OR CONSEQUENTIAL DAMAGES ARISING OUT OF THIS AGREEMENT.

8. Term and Termination. This Agreement shall commence on the Effective Date and, unless terminated earlier in accordance with this Section 8, shall continue for an initial term of thirty-six (36) months (the "Initial Term"). Thereafter, this Agreement shall automatically renew for successive periods of twelve (12) months each, unless either Party gives the other written notice of non-renewal at least ninety (90) days prior to the end of the then-current term. Either Party may terminate this Agreement for cause upon thirty (30) days' written notice of a material breach, if such breach remains uncured at the expiration of such period.

8.1 Effect of Termination. Upon termination of this Agreement for any reason, (a) the Licensee shall cease all use of the Licensed Materials, (b) all outstanding fees, in the amount of US$ 125,000.00 or such other amount as is set forth in Exhibit B, shall become immediately due and payable, and (c) each Party shall return or destroy the other Party's Confidential Information.

IN WITNESS WHEREOF, the Parties have caused this Agreement to be executed by their duly authorized representatives as of the date first written above.

By: ______________________          By: ______________________
Name: ____________________          Name: ____________________
Title: President                    Title: Chief Financial Officer
"""

PEP = """\
This document and :pep:`257` (Docstring Conventions) were adapted from
Guido's original Python Style Guide essay, with some additions from
Barry's style guide [2]_.

This style guide evolves over time as additional conventions are
identified and past conventions are rendered obsolete by changes in
the language itself.

Many projects have their own coding style guidelines. In the event of any
conflicts, such project-specific guides take precedence for that project.


A Foolish Consistency is the Hobgoblin of Little Minds
======================================================

One of Guido's key insights is that code is read much more often than
it is written.  The guidelines provided here are intended to improve
the readability of code and make it consistent across the wide
spectrum of Python code.  As :pep:`20` says, "Readability counts".

A style guide is about consistency.  Consistency with this style guide
is important.  Consistency within a project is more important.
Consistency within one module or function is the most important.

However, know when to be inconsistent -- sometimes style guide
recommendations just aren't applicable.  When in doubt, use your best
judgment.  Look at other examples and decide what looks best.  And
don't hesitate to ask!

In particular: do not break backwards compatibility just to comply with
this PEP!

Some other good reasons to ignore a particular guideline:

1. When applying the guideline would make the code less readable, even
   for someone who is used to reading code that follows this PEP.

2. To be consistent with surrounding code that also breaks it (maybe
   for historic reasons) -- although this is also an opportunity to
   clean up someone else's mess (in true XP style).

3. Because the code in question predates the introduction of the
"""

CODE = '''\
    def check(
        self, asked: Amount, *, promised: Amount | None = None, closing: bool = False
    ) -> None:
        """See whether `asked` would fit beside what is `promised`, without taking it.

        `promised` is by default what is held; with `NOTHING` the question is whether it
        could ever fit.

        Raises:
            LimitReached: naming the first ceiling that would be passed. Nothing changes.
        """
        promised = self.held if promised is None else promised
        used = self.spent + promised + (NOTHING if closing else self.aside)
        for name, ceiling in self._ceilings():
            have, more = getattr(used, name), getattr(asked, name)
            if ceiling is not None and more and have + more > ceiling:
                raise LimitReached(LIMIT_NAMES[name], used=have, asked=more, ceiling=ceiling)

    def reserve(self, call: CallId, worst: Amount, *, closing: bool = False) -> None:
        """Set the worst case of one attempt aside.

        Raises:
            LimitReached: if the attempt could pass a ceiling. Nothing changes.
        """
        if call in self._holds:
            msg = f"call {call} is held already"
            raise KeyError(msg)
        self.check(worst, closing=closing)
        self._holds[call] = worst
        self.held += worst

    def settle(self, call: CallId, actual: Amount) -> None:
        """Swap a hold for what the attempt cost. A failed one settles what was billed."""
        worst = self._holds.pop(call)
        self.held -= worst
        self.spent += actual
        self.overrun_usd_micro += max(0, actual.usd_micro - worst.usd_micro)

    def release(self, call: CallId) -> None:
        """Drop the hold of an attempt that was never sent."""
        self.held -= self._holds.pop(call)

    def resume(self, limits: Limits, carried: Amount) -> None:
        """Go on under these limits, with so much spent beside what is known of."""
        self.limits, self._max_usd_micro = limits, limits.max_usd_micro
        self.spent += carried

    def worst(self, call: CallId) -> Amount:
        """Tell what is held for `call`."""
        return self._holds[call]

    def left(self) -> dict[str, int | None]:
'''

CHINESE = """\
此开卷第一回也。作者自云：因曾历过一番梦幻之后，故将真事隐去，而借通灵说此《石头记》一书也，故曰“甄士隐”云云。但书中所记何事何人？自己又云：“今风尘碌碌，一事无成，忽念及当日所有之女子：一一细考较去，觉其行止见识皆出我之上。我堂堂须眉诚不若彼裙钗，我实愧则有余，悔又无益，大无可如何之日也。”
子曰：“学而时习之，不亦说乎？有朋自远方来，不亦乐乎？人不知而不愠，不亦君子乎？”
人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。人人有资格享有本宣言所载的一切权利和自由，不分种族、肤色、性别、语言、宗教、政治或其他见解、国籍或社会出身、财产、出生或其他身份等任何区别。
我家的后面有一个很大的园，相传叫作百草园。现在是早已并屋子一起卖给朱文公的子孙了，连那最末次的相见也已经隔了七八年，其中似乎确凿只有一些野草；但那时却是我的乐园。
"""

CHINESE_LAW = """\
中華民國人民，無分男女、宗教、種族、階級、黨派，在法律上一律平等。
人民身體之自由應予保障。除現行犯之逮捕由法律另定外，非經司法或警察機關依法定程序，不得逮捕拘禁。非由法院依法定程序，不得審問處罰。非依法定程序之逮捕、拘禁、審問、處罰，得拒絕之。
人民因犯罪嫌疑被逮捕拘禁時，其逮捕拘禁機關應將逮捕拘禁原因，以書面告知本人及其本人指定之親友，並至遲於二十四小時內移送該管法院審問。本人或他人亦得聲請該管法院，於二十四小時內向逮捕之機關提審。
"""

CHINESE_REPORT = """\
据介绍，今年以来，各地区各部门坚持稳中求进工作总基调，国民经济总体平稳，高质量发展扎实推进。
我们需要根据用户的问题，从数据库中查询相关信息，然后返回结果。如果没有找到，系统会提示错误信息，请稍后重试。
"""

SURNAMES = """\
赵钱孙李周吴郑王冯陈褚卫蒋沈韩杨朱秦尤许何吕施张孔曹严华金魏陶姜戚谢邹喻柏水窦章云苏潘葛奚范彭郎鲁韦昌马苗凤花方俞任袁柳酆鲍史唐费廉岑薛雷贺倪汤滕殷罗毕郝邬安常乐于时傅皮卞齐康伍余元卜顾孟平黄和穆萧尹姚邵湛汪祁毛禹狄米贝明臧计伏成戴谈宋茅庞熊纪舒屈项祝董梁杜阮蓝闵席季麻强贾路娄危江童颜郭梅盛林刁钟徐邱骆高夏蔡田樊胡凌霍虞万支柯昝管卢莫经房裘缪干解应宗丁宣贲邓郁单杭洪包诸左石崔吉钮龚
"""

PLANTS = """\
薔薇 蒲公英 薄荷 蘿蔔 茼蒿 莧菜 芫荽 薏苡 蓖麻 菖蒲 蘆葦 荸薺 茯苓 黃芩 蒼朮 菟絲子
羌活 藁本 蕁麻 蒺藜 莪朮 薑黃 葎草 蕺菜 虎耳草 紫菀 旋覆花 漏蘆 茵陳蒿 牛蒡 蒼耳 鱧腸
豨薟 澤蘭 藿香 荊芥 夏枯草 丹參 薺菜 葶藶 萊菔 蕪菁 芥菜 蘘荷 豆蔻 蓽茇 檳榔 櫸樹 榕樹
"""

METALS_AND_FISH = """\
鈧鈦釩鉻錳鎳銅鋅鎵鍺砷硒溴氪銣鍶釔鋯鈮鉬鎝釕銠鈀銀鎘銦錫銻碲碘氙銫鋇鑭鈰鐠釹鉕釤
鯉魚、鯽魚、鯰魚、鱸魚、鮭魚、鱒魚、鰻魚、鯖魚、鮪魚、鰹魚、鯊魚、鱈魚、鰈魚、鮋魚
"""

JAPANESE = """\
吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。何でも薄暗いじめじめした所でニャーニャー泣いていた事だけは記憶している。吾輩はここで始めて人間というものを見た。しかもあとで聞くとそれは書生という人間中で一番獰悪な種族であったそうだ。この書生というのは時々我々を捕えて煮て食うという話である。
すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。人間は、理性と良心とを授けられており、互いに同胞の精神をもって行動しなければならない。
或日の暮方の事である。一人の下人が、羅生門の下で雨やみを待っていた。広い門の下には、この男のほかに誰もいない。ただ、所々丹塗の剥げた、大きな円柱に、蟋蟀が一匹とまっている。
"""

RUSSIAN = """\
Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему. Все смешалось в доме Облонских. Жена узнала, что муж был в связи с бывшею в их доме француженкою-гувернанткой, и объявила мужу, что не может жить с ним в одном доме. Положение это продолжалось уже третий день и мучительно чувствовалось и самими супругами, и всеми членами семьи, и домочадцами.
Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и совестью и должны поступать в отношении друг друга в духе братства.
У лукоморья дуб зелёный; Златая цепь на дубе том: И днём и ночью кот учёный Всё ходит по цепи кругом; Идёт направо — песнь заводит, Налево — сказку говорит.
"""

KOREAN = """\
모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. 인간은 천부적으로 이성과 양심을 부여받았으며 서로 형제애의 정신으로 행동하여야 한다. 모든 사람은 인종, 피부색, 성, 언어, 종교, 정치적 또는 기타의 견해, 민족적 또는 사회적 출신, 재산, 출생 또는 기타의 신분과 같은 어떠한 종류의 차별이 없이, 이 선언에 규정된 모든 권리와 자유를 향유할 자격이 있다.
"""

EMOJI = (
    "Great job \U0001f44d\U0001f3fd see you \U0001f389\U0001f389 ok \U0001f680 "
    "\u2764\ufe0f \U0001f1eb\U0001f1f7 \U0001f468\u200d\U0001f469\u200d\U0001f467 "
    "\U0001f602\U0001f970 lol \U0001f525\U0001f4af\n"
) * 8


def numbers(count: int) -> list[int]:
    """Numbers that look like chance and are the same everywhere."""
    state, found = 12345, []
    for _ in range(count):
        state = (1103515245 * state + 12345) % 2**31
        found.append(state >> 8)
    return found


def records() -> list[dict[str, object]]:
    """Rows as an API gives them."""
    return [
        {
            "id": number,
            "user_id": value % 1_000_000,
            "name": ("Alice Smith", "Bob Jones", "Carol White")[value % 3],
            "email": f"user{number}@example.com",
            "active": value % 2 == 0,
            "score": value % 100_000 / 1000,
            "tags": ["alpha", "beta"],
            "created_at": f"2025-0{value % 9 + 1}-1{value % 10}T12:{value % 50 + 10}:00Z",
        }
        for number, value in enumerate(numbers(12))
    ]


def spread(first: int, last: int, count: int = 300) -> str:
    """Characters from all over a range, in no order."""
    return "".join(chr(first + 7919 * number % (last + 1 - first)) for number in range(count))


SAMPLES: dict[str, str] = {
    "English, a novel": NOVEL,
    "English, a contract": CONTRACT,
    "English, a PEP": PEP,
    "source code": CODE,
    "JSON, compact": json.dumps(records(), separators=(",", ":")),
    "JSON, indented": json.dumps(records(), indent=2),
    "CSV of integers": "\n".join(
        ",".join(str(value % 10 ** (value % 7 + 1)) for value in numbers(600)[row::75])
        for row in range(75)
    ),
    "CSV of decimals": "\n".join(
        ",".join(f"{value / 2**23 - 0.5:.6f}" for value in numbers(320)[row::40])
        for row in range(40)
    ),
    "Chinese": CHINESE,
    "Chinese, a law": CHINESE_LAW,
    "Chinese, a report": CHINESE_REPORT,
    "Chinese, surnames": SURNAMES,
    "Chinese, surnames apart": "\n".join(" ".join(line) for line in SURNAMES.split()),
    "Chinese, plants": PLANTS,
    "Chinese, metals and fish": METALS_AND_FISH,
    "Chinese, any character": spread(0x4E00, 0x9FA5),
    "Chinese, Extension A": spread(0x3400, 0x4DBF),
    "Japanese": JAPANESE,
    "Korean": KOREAN,
    "Russian": RUSSIAN,
    "emoji": EMOJI,
}
