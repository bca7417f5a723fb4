"""Names that columns have in files, in the languages that shops and data sets are written in."""

import re
import unicodedata

RECBOLE = re.compile(r":(token|token_seq|float|float_seq)$")  # RecBole's headers

NUMBER_SIGN = re.compile(r"\b[nN][°º]|№")
RECURRING = ("reference", "referencia")  # items if interactions have the same again, else of orders

# In the form of `squeezed`; the first that a file has is taken.
ALIASES: dict[str, tuple[str, ...]] = {
    "user_id": (
        *"userid user uid customerid customer householdid reviewerid visitorid memberid accountid".split(),
        *"buyerid clientid personid playerid sessionid".split(),
        *"用户id 用户 用户编号 用户名 会员id 会员 会员编号 客户id 客户 买家id 买家 用戶id 用戶 會員 客戶".split(),
        *"ユーザーid ユーザー ユーザid ユーザ 会員番号 顧客id 顧客 사용자id 사용자 고객id 고객 회원id 회원".split(),
        *"benutzerid benutzer nutzerid nutzer kundenid kundennummer kundennr kunde".split(),
        *"utilisateurid idutilisateur utilisateur clientid idclient client".split(),
        *"usuarioid idusuario usuario clienteid idcliente cliente utenteid idutente utente".split(),
        *"пользовательid idпользователя пользователь клиент покупатель".split(),
        *"顾客 顾客id 顾客编号 会員id お客様番号 顧客番号 고객번호 회원번호 사용자번호".split(),
        *"kundenno kundencode kdnr kaufer numeroclient codeclient acheteur numerocliente codigocliente".split(),
        *"comprador codicecliente acquirente кодклиента idклиента idпокупателя".split(),
    ),
    "item_id": (
        *"itemid item iid movieid parentasin asin productid product".split(),
        *"stockcode sku articleid isbn bookid clothingid filmid trackid songid artistid albumid gameid".split(),
        *"newsid videoid recipeid restaurantid hotelid courseid jobid animeid contentid goodsid offerid".split(),
        *"商品id 商品 商品编号 商品编码 物品id 物品 产品id 产品 电影id 电影 图书id 图书".split(),
        *"商品編號 產品 電影 商品番号 商品コード アイテムid アイテム 상품id 상품 상품코드 아이템id 아이템".split(),
        *"artikelid artikelnummer artikelnr artikel produktid produkt".split(),
        *"idarticle article produitid idproduit produit".split(),
        *"productoid idproducto producto articulo produtoid idproduto produto".split(),
        *"prodottoid idprodotto prodotto articolo товарid idтовара товар артикул".split(),
        *"货号 商品代码 品番 製品番号 상품번호 품번 artnr artikelno artikelcode produktnummer produktnr".split(),
        *"codearticle codeproduit refarticle refproduit referencearticle referenceproduit numeroarticle".split(),
        *"codigoproducto codigodelproducto codigoarticulo codigoproduto codigodoproduto".split(),
        *"codiceprodotto codicearticolo кодтовара".split(),
        *RECURRING,
    ),
    "timestamp": (
        *"timestamp ts time unixreviewtime date datetime invoicedate createdat eventtime".split(),
        *"transactiontimestamp reviewdate reviewtime eventdate orderdate ordertime orderedat purchasedate".split(),
        *"purchasetime purchasedat transactiondate transactiontime saledate salesdate visitdate visittime".split(),
        *"ratedat watchedat playedat clickedat viewedat createdon eventtimestamp unixtime datetimeutc".split(),
        *"时间戳 时间 日期 下单时间 购买时间 评价时间 评论时间 创建时间 時間 日時 日付 購入日 注文日".split(),
        *"일시 시간 날짜 구매일 주문일 zeitstempel zeit datum bestelldatum kaufdatum horodatage".split(),
        *"dateachat datecommande fecha fechacompra fechapedido datacompra datapedido dataacquisto дата время".split(),
        *"交易时间 订单时间 付款时间 成交时间 下单日期 购买日期".split(),
        *"注文日時 購入日時 구매일시 주문일시 구매일자 주문일자".split(),
        *"verkaufsdatum rechnungsdatum belegdatum auftragsdatum datedachat datedecommande".split(),
        *"datevente datedevente".split(),
        *"fechaventa fechadecompra fechadepedido datavenda datadacompra datavendita dataordine".split(),
        *"датапокупки датазаказа".split(),
    ),
    "rating": (
        *"rating stars starrating overall score rate bookrating".split(),
        *"评分 打分 星级 評分 評価 評点 평점 별점 bewertung sterne calificacion valoracion puntuacion".split(),
        *"evaluation avaliacao valutazione voto оценка рейтинг".split(),
        *"评分值 レーティング wertung etoiles estrellas estrelas stelle punteggio note nota".split(),
    ),
    "event": (
        *"event eventtype eventname action actiontype behavior behaviour behaviortype behaviourtype".split(),
        *"interactiontype activitytype feedbacktype reactiontype".split(),
        *"feedback reaction interaction activity 动作 操作".split(),
        *"行为 行为类型 事件 事件类型 行動 이벤트 행동 ereignis aktion evenement evento событие действие".split(),
    ),
    "review": (
        *"review reviewtext text reviewbody comment".split(),
        *"评论 评价 评论内容 评价内容 評論 レビュー 리뷰 rezension kommentar commentaire avis".split(),
        *"comentario resena recensione отзыв комментарий".split(),
    ),
    "basket": (
        *"basket basketid invoiceno invoice orderid transactionid".split(),
        *"订单id 订单号 订单编号 訂單編號 注文番号 주문번호 bestellnummer bestellid rechnungsnummer".split(),
        *"numerocommande idcommande idpedido numeropedido idordine номерзаказа".split(),
        *"交易号 交易编号 小票号 受注番号 伝票番号".split(),
        *"belegnr belegnummer bestellnr rechnungsnr auftragsnr auftragsnummer".split(),
        *"bonnr bonnummer numerodecommande numerofacture numerodepedido numerodopedido numerofactura".split(),
        *"numeroordine numerofattura numeroscontrino numeroзаказа номерчека".split(),
    ),
    "title": (
        *"title name movietitle producttitle itemname itemtitle productname booktitle description".split(),
        *"标题 名称 商品名称 商品名 商品标题 产品名称 电影名称 电影名 书名 片名 標題 名稱 商品名稱".split(),
        *"タイトル 名前 アイテム名 제목 상품명 이름 titel bezeichnung artikelname produktname".split(),
        *"titre nom nomproduit titulo nombre nome nombreproducto nomeproduto titolo название наименование".split(),
        *"品名 货品名称 製品名 품명 artikelbezeichnung produktbezeichnung warenbezeichnung artikeltext".split(),
        *"designation designationarticle designationproduit libelle libellearticle libelleproduit nomduproduit".split(),
        *"nombredelproducto nombrearticulo denominacion nomedoproduto designacao nomeprodotto nomearticolo".split(),
        *"denominazione названиетовара наименованиетовара".split(),
    ),
    "category": (
        *"category maincategory department classname categories".split(),
        *"类别 分类 类目 商品类别 商品分类 類別 分類 カテゴリ カテゴリー 카테고리 분류".split(),
        *"kategorie categorie categoria категория".split(),
        *"品类 商品类目 商品カテゴリ 部門 상품분류 상품카테고리 warengruppe artikelgruppe produktgruppe rayon".split(),
        *"famillearticle familleproduit seccion reparto categoriaproducto categoriaproduto".split(),
        *"categoriaprodotto группатоваров категориятовара".split(),
    ),
    "genre": ("genre", "genres", *"类型 题材 類型 ジャンル 장르 genero generi жанр жанры".split()),
    "year": (
        *"year releaseyear yearofpublication 年份 上映年份 年 연도 jahr annee ano anno год".split(),
        *"erscheinungsjahr anneedesortie".split(),
    ),
    "part": tuple("part split datasplit splitset partition fold subset dataset set usage 数据集 划分 集合".split()),
}
# Kinds of items: in interactions such a column is the item where no other is.
KINDS = tuple(
    "movie film book song track artist album game show video anime recipe restaurant hotel course job".split()
)
ALL = frozenset(alias for aliases in ALIASES.values() for alias in aliases)


def plain(name: str) -> str:
    """A column name in the form that tasks and conditions use: `Release Year` is `release_year`."""
    return re.sub(r"[\s\-.]+", "_", RECBOLE.sub("", name).strip()).lower()


def squeezed(name: str) -> str:
    """A column name in the form used to compare: `userId`, `User Id` and `user_id` are equal; `título` is `titulo`,
    `N° commande` is `numerocommande`."""
    name = unicodedata.normalize("NFKC", NUMBER_SIGN.sub("numero", RECBOLE.sub("", name)))
    text = re.sub(r"[\W_]+", "", name).lower()
    return "".join(_base(c) for c in text)


def _base(letter: str) -> str:
    """A Latin letter without its accent; other letters as they are (the marks of kana and hangul belong to them)."""
    plain_letter = unicodedata.normalize("NFD", letter)[0]
    return plain_letter if plain_letter.isascii() else letter


def known(name: str) -> bool:
    """Whether a column name is one that says what the column means."""
    return squeezed(name) in ALL
