"""What names of fields hint at. The values decide; a hint settles what they leave open.

Not inside: the values (`choosing`).
"""

from __future__ import annotations

import re

TIME = """
    timestamp time ts t datetime date_time date epoch when event_time event_ts zeit zeitstempel zeitpunkt
    uhrzeit datum horodatage fecha
"""
STREAM = """
    stream device device_id deviceid symbol sym ticker instrument instr pair isin sensor sensor_id sensorid host
    hostname
    machine machine_id asset asset_id unit_id node station meter meter_id source series series_id id name tag
    equipment pump turbine vehicle geraet gerät maschine anlage messstelle messpunkt sensorname standort zaehler
    zähler appareil dispositivo
"""
METRIC = """
    metric metric_name metricname measurement field kpi variable parameter param signal channel quantity
    property messgroesse messgröße kenngroesse kenngröße merkmal groesse größe kanal type sensor name tag item
    key
"""
VALUE = "value val v reading data measurement wert messwert valeur valor betrag"
SEQUENCE = """
    seq sequence seqno seq_no sequence_number sequenceno msgseqnum msg_seq counter msg_id tick_id trade_id
"""
IDENTIFIER = "id uuid guid key nr no code pid port version build zip plz row index offset"
LABEL = "label labels fault anomaly is_anomaly class target suspicious flag quality split"
NOT_STREAM = """
    unit units einheit uom status state level severity quality exchange exch ex venue conditions condition side currency
    message msg version type kind split color
"""
ARRIVAL = """
    ingested ingest ingest_time received received_at arrival arrived processed processed_at created created_at
    stored updated updated_at inserted
"""
PRICE = "price px last_price lastprice trade_price tradeprice last trdpx kurs preis p"
SIZE = """
    size qty quantity volume vol trade_size tradesize last_size amount shares lastqty menge stueck s q
"""
BID = "bid bid_price bidprice best_bid bidpx bid_px b geld"
ASK = "ask ask_price askprice best_ask askpx ask_px offer offer_price a brief"
BID_SIZE = "bid_size bidsize bid_qty bid_volume bidqty bidvol best_bid_size bid_sz"
ASK_SIZE = "ask_size asksize ask_qty ask_volume askqty askvol best_ask_size ask_sz offer_size"


def hint(name: str, words: str) -> float:
    """How well a name fits: 1 one of the words, 0.5 one of them is a part of it, 0 not at all.

    >>> hint("eventTime", TIME), hint("temperature", TIME), hint("meta.device", STREAM)
    (1.0, 0.0, 1.0)
    """
    known = set(words.split())
    plain = name.lstrip("@").removeprefix("header:")
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", plain.rpartition(".")[2]).lower().replace("-", "_").replace(" ", "_")
    if snake in known or snake.replace("_", "") in known:
        return 1.0
    parts = [part for part in re.split(r"[_.]", f"{plain.rpartition('.')[0].lower()}.{snake}") if len(part) > 1]
    return 0.5 if any(part in known for part in parts) else 0.0
