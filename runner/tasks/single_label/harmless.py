"""Words that may stand around a label in an answer without changing what it says, by language.

An allow-list: what is not on it makes an answer unusable, which costs one more question. Whoever adds a word makes sure
that no sentence of these words denies a label, weighs it, or takes it back. Words of one statement must be of one
language, for the harmless word of one may deny in another. Scripts that set no blanks between words are listed by the
pieces that their sentences are made of.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Language:
    """``says`` are words of which one makes a statement (*is*, *sure*); ``names`` what a label is called; ``fills`` may
    stand beside them; ``ends`` may follow the label; ``reasons`` begin an explanation."""

    says: frozenset[str]
    names: frozenset[str]
    fills: frozenset[str]
    ends: frozenset[str]
    reasons: frozenset[str]

    @property
    def words(self) -> frozenset[str]:
        """All that may stand before a label."""
        return self.says | self.names | self.fills


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


def _language(says: str, names: str, fills: str = "", ends: str = "", reasons: str = "") -> Language:
    return Language(*map(_set, (says, names, fills, ends, reasons)))


LANGUAGES: dict[str, Language] = {
    "en": _language(
        says="is say choose pick assign classify classified label labeled labelled rated sure certainly okay ok seems "
        "appears think believe",
        names="label answer sentiment class category classification prediction rating score output result response "
        "verdict decision conclusion polarity tone topic",
        fills="the a an this that it its s i d ll m would should be as of for to my your our final correct best right "
        "most likely clearly overall therefore so thus hence here given following text sentence review message "
        "comment document you go hope helps single appropriate predicted assigned expressed one",
        reasons="reason reasoning explanation rationale justification because confidence note",
    ),
    "de": _language(
        says="ist lautet sage denke gerne klar stufe bewerte klassifiziere",
        names="label etikett klasse kategorie klassifikation klassifizierung einordnung einstufung stimmung sentiment "
        "antwort ergebnis bewertung",
        fills="das der die den dem des dieser diese dieses diesen ein eine einen es ich meine mein richtige korrekte "
        "endgültige finale passende hier also daher somit text textes satz satzes rezension kommentar von für "
        "als",
        ends="ein eingestuft einstufen bewertet bewerten klassifiziert klassifizieren",
        reasons="begründung grund erklärung weil konfidenz",
    ),
    "fr": _language(
        says="est dirais choisis classe pense",
        names="label étiquette classe catégorie classification sentiment réponse résultat polarité",
        fills="le la l les un une ce c cette ma mon je qu que il s agit d de du donc ainsi voici bonne correcte "
        "finale texte phrase avis commentaire message pour comme",
        reasons="raison explication justification car confiance",
    ),
    "es": _language(
        says="es diría elijo clasifico creo",
        names="etiqueta clase categoría clasificación sentimiento respuesta resultado polaridad",
        fills="el la los un una este esta esto mi yo que de del correcta final aquí texto frase reseña comentario "
        "mensaje para como",
        reasons="razón explicación justificación porque confianza",
    ),
    "it": _language(
        says="è direi scelgo classifico penso",
        names="etichetta classe categoria classificazione sentimento sentiment risposta risultato polarità",
        fills="il lo la l un una questo questa mia che di del della corretta finale quindi ecco testo frase "
        "recensione commento messaggio per come",
        reasons="motivo ragione spiegazione motivazione perché confidenza",
    ),
    "nl": _language(
        says="is luidt zeg kies denk",
        names="label etiket klasse categorie classificatie sentiment antwoord resultaat",
        fills="de het een dit deze mijn ik zou zeggen dat van voor dus daarom hier juiste correcte definitieve tekst "
        "zin recensie bericht",
        reasons="reden uitleg toelichting omdat",
    ),
    "pt": _language(
        says="é diria escolho classifico acho",
        names="rótulo etiqueta classe categoria classificação sentimento resposta resultado polaridade",
        fills="o a um uma este esta isto minha eu que de do da correta final portanto aqui texto frase comentário "
        "mensagem para como",
        reasons="razão motivo explicação justificativa porque",
    ),
    "sv": _language(
        says="är",
        names="etikett etiketten klass kategori sentiment svar svaret",
        fills="det den här detta texten textens mitt",
        reasons="förklaring motivering",
    ),
    "pl": _language(
        says="jest brzmi",
        names="etykieta klasa kategoria klasyfikacja sentyment odpowiedź wynik",
        fills="to ten ta moja tekst tekstu poprawna",
        reasons="uzasadnienie wyjaśnienie",
    ),
    "ru": _language(
        says="это есть думаю считаю",
        names="метка класс категория классификация тональность настроение ответ результат оценка",
        fills="этот эта этого данный данного мой я что итак правильный правильная окончательный итоговый итоговая "
        "текст текста отзыв отзыва",
        reasons="причина объяснение обоснование потому",
    ),
    "tr": _language(
        says="şudur",
        names="etiket etiketi cevap cevabım yanıt sınıf kategori duygu duygusu sonuç",  # noqa: RUF001
        fills="bu metin metnin doğru",
        reasons="açıklama gerekçe",  # noqa: RUF001
    ),
    "ar": _language(
        says="هو هي",
        names="التصنيف تصنيف الفئة فئة التسمية الإجابة إجابة الجواب النتيجة المشاعر الشعور",
        fills="هذا هذه النص الصحيح الصحيحة النهائي النهائية",
        reasons="السبب الشرح التفسير التعليل",
    ),
    "hi": _language(
        says="है",
        names="लेबल उत्तर श्रेणी वर्ग भावना वर्गीकरण",
        fills="यह इस का की के पाठ सही अंतिम",
        ends="है",
        reasons="कारण व्याख्या",
    ),
    "zh": _language(
        says="是 为 為 属于 屬於",
        names="标签 標籤 类别 類別 分类 分類 情感 情绪 情緒 答案 结果 結果 极性 極性",
        fills="这 這 该 該 此 的 我 最终 最終 正确 正確 因此 所以 应该 應該 应 應 文本 句子 文字 评论 評論 段 条 條 "
        "个 個 句 篇 好的",
        ends="的",
        reasons="理由 原因 解释 解釋 说明 說明 因为 因為",
    ),
    "ja": _language(
        says="は",
        names="ラベル 感情 分類 カテゴリ カテゴリー クラス 答え 回答 結果 判定 極性",
        fills="の この その これ が 文 文章 テキスト レビュー 最終 正解 したがって よって",
        ends="です である だ と判断します と思います と考えます",
        reasons="理由 説明 根拠",
    ),
    "ko": _language(
        says="은 는",
        names="라벨 레이블 감정 감성 분류 카테고리 정답 답변 답 결과",
        fills="이 가 의 텍스트 문장 리뷰 최종 따라서",
        ends="입니다 이다 이에요 예요 적입니다",
        reasons="이유 설명 근거",
    ),
}

DENY = _set(
    "no not non none nor neither any other without un anti zero few and or both never all kein keine keinen "
    "keiner nicht nie ohne oder pas sans aucun aucune ni ou sin ningún ninguna nessun nessuna senza geen niet "
    "zonder sem nenhum nenhuma não e o y u utan inte ikke nie bez brak не нет без yok değil لا غير ليس بدون "
    "नहीं 不 没 沒 无 無 非 未 없음 안 なし 無し"
)
"""Labels that would themselves deny or weigh the word after them: read only where they are pointed at."""
