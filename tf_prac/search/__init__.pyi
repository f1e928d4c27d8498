from tf_prac.search.callbacks import SearchCallback as SearchCallback
from tf_prac.search.selection import RoundOutcome as RoundOutcome
from tf_prac.search.selectors import SELECTORS as SELECTORS
from tf_prac.search.selectors import Scores as Scores
from tf_prac.search.result import SearchResult as SearchResult
from tf_prac.search.ticket import Control as Control
from tf_prac.search.ticket import Ticket as Ticket
from tf_prac.search.ticket_search import TicketSearch as TicketSearch
